"""Applies one technique to an artefact, checks what it made, and stores it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from efflab.artefacts.artefact import Artefact, write_interface
from efflab.artefacts.made import content, store_result
from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.card_paths import find_card
from efflab.cards.model_check import kept_interface, look_at
from efflab.contracts.technique import Context, Technique
from efflab.execution.stages.score import validation_quality
from efflab.execution.stages.step_check import check_step
from efflab.foundation import registry
from efflab.foundation.errors import Paused, RequestError
from efflab.foundation.files import write_atomically
from efflab.foundation.progress import Report
from efflab.foundation.step_errors import in_words
from efflab.plan.stage_specs import baseline_of, task_of
from efflab.profiling.work_of_artefact import artefact_result

RUNG = "rung.json"  # what a paused training was worth


def run_step(spec: dict[str, Any], needs: list[Path], folder: Path, report: Report) -> dict[str, Any]:
    """Apply one technique to the artefact before it and store what it gives; a step that changes nothing is an error.

    A training that is to pause (`pause_at`, a share of its steps) is scored there on the validation split, once.
    """
    import torch

    from efflab.training.technique_training import CHECKPOINT
    from efflab.training.trainer import pause_at

    parent, baseline = Artefact.open(needs[0]), baseline_of(spec["card"])
    technique: Technique = registry.load("techniques", spec["technique"])(**spec["settings"])
    task = task_of(spec).for_model(parent.interface)
    context = Context(
        task=task,
        seed=spec["seed"],
        folder=folder,
        baseline=lambda: Artefact.open(needs[1]).module(),
        card=lambda name: _card_module(name, baseline),
        optimizer=spec.get("optimizer", "sgd"),
        report=report,
    )
    rung = folder / RUNG
    pause_at(folder / CHECKPOINT, spec.get("pause_at"))
    if "pause_at" in spec and rung.exists():
        raise Paused(spec["pause_at"], 0.0, json.loads(rung.read_text()))
    torch.manual_seed(spec["seed"])
    started = time.perf_counter()
    model = parent.module() if parent.form == "module" else parent.onnx
    try:
        with in_words(spec["technique"], model, type(technique)):
            result = technique.apply(model, context)
    except Paused as pause:
        pause.result = {"quality": validation_quality(model, task), "cost": vars(context.cost)}
        write_atomically(rung, json.dumps(pause.result))
        raise
    context.cost.seconds = max(context.cost.seconds, time.perf_counter() - started)  # what was interrupted counts, too
    pause_at(folder / CHECKPOINT, None)
    told = {"rung": json.loads(rung.read_text())} if rung.exists() else {}
    rung.unlink(missing_ok=True)
    child = store_result(spec["technique"], technique.gives, result.model, result.structure, parent, folder)
    if parent.form == technique.gives and content(parent.folder) == content(folder):
        raise RequestError(f"{spec['technique']} changed nothing in the model; with these settings it is no step")
    fidelity = check_step(spec["technique"], technique.least_sqnr_db, parent, child, task)
    write_interface(folder, kept_interface(parent.interface, look_at(child, task, parent.interface.scored)))
    told["fidelity"] = {"technique": spec["technique"], **fidelity, "notes": list(result.notes)}
    return artefact_result(folder, task, context.cost) | told


def _card_module(name: str, baseline: Baseline) -> Any:
    other = load_baseline(find_card(name, baseline.document.path))
    return other.module((other.seeds() or [0])[0])
