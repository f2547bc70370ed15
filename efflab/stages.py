"""What a worker does for each kind of stage: load a baseline, apply a technique, score a model on a backend."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from efflab import registry
from efflab.artefact import GRAPH, WEIGHTS, Artefact, save_module, write_structure
from efflab.baseline import Baseline, find_card, load_baseline
from efflab.errors import Paused, RequestError
from efflab.store import write_atomically
from efflab.task import SplitName, Task
from efflab.technique import Context, Cost, Result, Technique

Report = Callable[[int, int, str], None]
QUALITY_BATCH = 250
RUNG = "rung.json"  # what a paused training was worth


def execute(kind: str, spec: dict[str, Any], needs: list[Path], folder: Path, report: Report) -> dict[str, Any]:
    """Do one stage in `folder` and return its result as plain data; `needs` are the folders of the stages before it."""
    return EXECUTE[kind](spec, needs, folder, report)


@cache
def _baseline(path: str) -> Baseline:
    return load_baseline(Path(path))


@cache
def _task(name: str, settings: tuple[tuple[str, Any], ...]) -> Task:
    task: Task = registry.load("tasks", name)(**dict(settings))
    return task


def task_of(spec: dict[str, Any]) -> Task:
    """Return the task that a stage names; one worker builds its data once."""
    return _task(spec["task"]["name"], tuple(sorted(spec["task"]["settings"].items())))


def run_baseline(spec: dict[str, Any], needs: list[Path], folder: Path, report: Report) -> dict[str, Any]:
    """Check a card's weights (or ONNX file, or checkpoint, which is exported) and store the model as an artefact."""
    baseline = _baseline(spec["card"])
    if baseline.card.hugging_face:
        from efflab.hugging_face_export import export_checkpoint

        if baseline.content(spec["seed"]) != spec["content"]:
            raise RequestError(f"the model of {baseline.name} has changed since the plan was made; plan again")
        export_checkpoint(baseline.checkpoint(), task_of(spec), folder / GRAPH)
        write_structure(folder, "onnx")
    elif baseline.form == "onnx":
        _store_onnx(baseline.onnx_file(), folder)
    else:
        save_module(baseline.module(spec["seed"]), baseline.builder(), [], folder)
    return artefact_result(folder, spec)


def run_step(spec: dict[str, Any], needs: list[Path], folder: Path, report: Report) -> dict[str, Any]:
    """Apply one technique to the artefact before it and store what it gives; a step that changes nothing is an error.

    A training that is to pause (`pause_at`, a share of its steps) is scored there on the validation split, once.
    """
    import torch

    from efflab.recovery import CHECKPOINT
    from efflab.training import pause_at

    parent, baseline = Artefact.open(needs[0]), _baseline(spec["card"])
    technique: Technique = registry.load("techniques", spec["technique"])(**spec["settings"])
    context = Context(
        task=task_of(spec),
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
        result = technique.apply(model, context)
    except Paused as pause:
        pause.result = {"quality": _validation_quality(model, context.task), "cost": vars(context.cost)}
        write_atomically(rung, json.dumps(pause.result))
        raise
    context.cost.seconds = max(context.cost.seconds, time.perf_counter() - started)  # what was interrupted counts, too
    pause_at(folder / CHECKPOINT, None)
    pause_at(folder / CHECKPOINT, None)
    told = {"rung": json.loads(rung.read_text())} if rung.exists() else {}
    rung.unlink(missing_ok=True)
    store_result(spec["technique"], technique, result, parent, folder)
    if parent.form == technique.gives and _content(parent.folder) == _content(folder):
        raise RequestError(f"{spec['technique']} changed nothing in the model; with these settings it is no step")
    return artefact_result(folder, spec, context.cost) | told


def store_result(name: str, technique: Technique, result: Result, parent: Artefact, folder: Path) -> Artefact:
    """Store in `folder` what a technique made of `parent`, and return it."""
    if technique.gives == "onnx":
        _store_onnx(Path(result.model), folder)
    else:
        edits = list(parent.structure["edits"])
        if result.structure is not None:
            edits.append({"technique": name, "structure": result.structure})
        save_module(result.model.eval(), parent.structure["builder"], edits, folder)
    return Artefact(folder, technique.gives)


def _card_module(name: str, baseline: Baseline) -> Any:
    other = load_baseline(find_card(name, baseline.document.path))
    return other.module((other.seeds() or [0])[0])


def _store_onnx(source: Path, folder: Path) -> None:
    if source.parent != folder or source.name != GRAPH:
        shutil.copyfile(source, folder / GRAPH)
    write_structure(folder, "onnx")


def _content(folder: Path) -> str:
    structure = Artefact.open(folder).structure
    file = folder / (GRAPH if structure["form"] == "onnx" else WEIGHTS)
    return hashlib.sha256(file.read_bytes()).hexdigest() + str(structure.get("edits"))


def artefact_result(folder: Path, spec: dict[str, Any], cost: Cost | None = None) -> dict[str, Any]:
    """Return the ledger of a stored artefact: work of one forward pass of one example, bytes, and what it cost to make."""
    import torch

    from efflab.calibration import like_parameters
    from efflab.profiling.work import count_module, count_onnx
    from efflab.profiling.work_by_input import count_by_input, is_input_dependent

    artefact, task = Artefact.open(folder), task_of(spec)
    if artefact.form == "onnx":
        work = count_onnx(artefact.onnx)
    elif is_input_dependent(module := artefact.module()):
        work = count_by_input(module, task)
    else:
        example = (torch.from_numpy(array[:1]) for array in task.split("validation").inputs)
        work = count_module(module, tuple(like_parameters(one, module) for one in example))
    spent = cost or Cost()
    return {
        "form": artefact.form,
        "work": {**work, "artefact_bytes": artefact.bytes},
        "cost": {
            "training_macs": spent.training_macs,
            "seconds": spent.seconds,
            "hardware_burden_flop": spent.hardware_burden_flop,
        },
    }


def _validation_quality(module: Any, task: Task) -> float:
    import torch

    from efflab.module_session import ModuleSession
    from efflab.profiling.quality import evaluate

    scores = evaluate(ModuleSession(module.eval(), torch.float32), task, "validation", QUALITY_BATCH)
    return float(task.quality(scores))


def run_quality(
    spec: dict[str, Any], needs: list[Path], folder: Path, report: Report, split_name: SplitName = "test"
) -> dict[str, Any]:
    """Score an artefact on the test split, on one backend, keeping every example's outcome."""
    from efflab.profiling.quality import evaluate
    from efflab.study import pack_scores

    task, artefact = task_of(spec), Artefact.open(needs[0])
    backend = registry.load("backends", spec["backend"])(**spec["settings"])
    split = task.split(split_name)
    size = min(QUALITY_BATCH, len(split))
    session = backend.prepare(artefact, tuple(array[:size] for array in split.inputs), 1)
    scores = evaluate(session, task, split, size)
    return {"metric": task.metric, "value": task.quality(scores), "scores": pack_scores(scores)}


EXECUTE: dict[str, Callable[..., dict[str, Any]]] = {
    "baseline": run_baseline,
    "step": run_step,
    "quality": run_quality,
    "validation": partial(run_quality, split_name="validation"),  # what a search chooses by
}
