"""Applies one technique to an artefact, checks what it made, and stores it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

from efflab.artefacts.artefact import Artefact, write_interface
from efflab.artefacts.made import content, store_result
from efflab.cards.model_check import kept_interface, look_at
from efflab.contracts.technique import Context, Technique
from efflab.execution.stages.score import validation_quality
from efflab.execution.stages.step_check import check_step
from efflab.foundation import registry
from efflab.foundation.errors import Paused, RequestError
from efflab.foundation.files import write_atomically
from efflab.foundation.progress import Report
from efflab.foundation.step_errors import in_words
from efflab.plan.stage_results import Made, Rung
from efflab.plan.stage_specs import ApplyTechnique
from efflab.profiling.work_of_artefact import artefact_result
from efflab.records.record import StepFidelity

RUNG = "rung.json"  # what a paused training was worth


def run_step(spec: ApplyTechnique, needs: Sequence[Path], folder: Path, report: Report) -> Made:
    """Apply one technique to the artefact before it and store what it gives; a step that changes nothing is an error.

    needs: the artefact before it, the baseline's, and those of its teachers. A training that is to pause is scored there on
    the validation split, once.
    """
    import numpy as np
    import torch

    from efflab.training.technique_training import CHECKPOINT
    from efflab.training.trainer import pause_at

    parent = Artefact.open(needs[0])
    teachers = dict(zip(spec.teachers, needs[2:], strict=True))
    technique: Technique = registry.load("techniques", spec.technique)(**spec.settings)
    task = spec.task.load().for_model(parent.interface)
    context = Context(
        task=task,
        seed=spec.seed,
        folder=folder,
        baseline=lambda: Artefact.open(needs[1]).module(),
        card=lambda name: Artefact.open(teachers[name]).module(),
        optimizer=spec.optimizer,
        report=report,
    )
    rung = folder / RUNG
    pause_at(folder / CHECKPOINT, spec.pause_at)
    if spec.pause_at is not None and rung.exists():
        raise Paused(spec.pause_at, 0.0, json.loads(rung.read_text()))
    for seed_all in (torch.manual_seed, random.seed, np.random.seed):  # whatever ran in this process before
        seed_all(spec.seed)
    started = time.perf_counter()
    model = parent.module() if parent.form == "module" else parent.onnx
    try:
        with in_words(spec.technique, model, type(technique)):
            result = technique.apply(model, context)
    except Paused as pause:
        pause.result = {"quality": validation_quality(model, task), "cost": vars(context.cost)}
        write_atomically(rung, json.dumps(pause.result))
        raise
    context.cost.seconds = max(context.cost.seconds, time.perf_counter() - started)  # what was interrupted counts, too
    pause_at(folder / CHECKPOINT, None)
    look: Rung | None = json.loads(rung.read_text()) if rung.exists() else None
    rung.unlink(missing_ok=True)
    child = store_result(spec.technique, technique.gives, result.model, result.structure, parent, folder)
    if parent.form == technique.gives and content(parent.folder) == content(folder):
        raise RequestError(f"{spec.technique} changed nothing in the model; with these settings it is no step")
    fidelity = check_step(spec.technique, technique.least_sqnr_db, parent, child, task)
    write_interface(folder, kept_interface(parent.interface, look_at(child, task, parent.interface.scored)))
    whole: StepFidelity = {"technique": spec.technique, **fidelity, "notes": list(result.notes)}
    return Made(**artefact_result(folder, task, context.cost), fidelity=whole, rung=look)
