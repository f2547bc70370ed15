"""What a worker does for each kind of stage: load a baseline, apply a technique, score a model on a backend."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from efflab import registry
from efflab.artefact import GRAPH, WEIGHTS, Artefact, save_module, write_interface, write_structure
from efflab.baseline import Baseline, find_card, load_baseline
from efflab.calibration import calibration_split, like_parameters
from efflab.errors import Paused, RequestError
from efflab.float_graph import load_whole
from efflab.interface import graph_ports, match_inputs
from efflab.model_check import check_steady, check_step, example_shapes, kept_interface, look_at
from efflab.onnx_graph import external_files, save_graph
from efflab.step_errors import in_words
from efflab.store import write_atomically
from efflab.task import SplitName, Task
from efflab.technique import Context, Cost, Result, Technique
from efflab.weights import file_digest

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
def _task(name: str, settings: str) -> Task:
    task: Task = registry.load("tasks", name)(**json.loads(settings))
    return task


def task_of(spec: dict[str, Any]) -> Task:
    """Return the task that a stage names; one worker builds its data once."""
    return _task(spec["task"]["name"], json.dumps(spec["task"]["settings"], sort_keys=True))


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
        _take_graph(baseline, task_of(spec), folder)
    else:
        save_module(baseline.module(spec["seed"]), baseline.builder(), [], folder)
    try:
        write_interface(folder, look_at(Artefact.open(folder), task_of(spec), baseline.card.output))
        artefact = Artefact.open(folder)
        check_steady(artefact, task_of(spec).for_model(artefact.interface))
    except RequestError as error:
        raise error.at(baseline.source()) from error
    return artefact_result(folder, spec)


def _take_graph(baseline: Baseline, task: Task, folder: Path) -> None:
    """Store a card's ONNX file, its inputs in the order of the task's arrays, and weights that lie beside it within it."""
    path, card = baseline.onnx_file(), baseline.card
    given, _ = graph_ports(path)
    order = match_inputs(given, task.split(calibration_split(task)).inputs, card.inputs or task.input_names)
    if order == sorted(order) and not external_files(path):
        store_onnx(path, folder)
        return
    model = load_whole(path)
    inputs = {value.name: value for value in model.graph.input}
    first = [given[order.index(place)].name for place in range(len(order))]
    values = [inputs.pop(name) for name in first]
    stored = list(inputs.values())
    del model.graph.input[:]
    model.graph.input.extend([*values, *stored])
    save_graph(model, folder / GRAPH)
    write_structure(folder, "onnx")


def run_step(spec: dict[str, Any], needs: list[Path], folder: Path, report: Report) -> dict[str, Any]:
    """Apply one technique to the artefact before it and store what it gives; a step that changes nothing is an error.

    A training that is to pause (`pause_at`, a share of its steps) is scored there on the validation split, once.
    """
    import torch

    from efflab.recovery import CHECKPOINT
    from efflab.training import pause_at

    parent, baseline = Artefact.open(needs[0]), _baseline(spec["card"])
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
        pause.result = {"quality": _validation_quality(model, task), "cost": vars(context.cost)}
        write_atomically(rung, json.dumps(pause.result))
        raise
    context.cost.seconds = max(context.cost.seconds, time.perf_counter() - started)  # what was interrupted counts, too
    pause_at(folder / CHECKPOINT, None)
    told = {"rung": json.loads(rung.read_text())} if rung.exists() else {}
    rung.unlink(missing_ok=True)
    child = store_result(spec["technique"], technique, result, parent, folder)
    if parent.form == technique.gives and _content(parent.folder) == _content(folder):
        raise RequestError(f"{spec['technique']} changed nothing in the model; with these settings it is no step")
    fidelity = check_step(spec["technique"], technique.least_sqnr_db, parent, child, task)
    write_interface(folder, kept_interface(parent.interface, look_at(child, task, parent.interface.scored)))
    told["fidelity"] = {"technique": spec["technique"], **fidelity, "notes": list(result.notes)}
    return artefact_result(folder, spec, context.cost) | told


def store_result(name: str, technique: Technique, result: Result, parent: Artefact, folder: Path) -> Artefact:
    """Store in `folder` what a technique made of `parent`, and return it."""
    if technique.gives == "onnx":
        store_onnx(Path(result.model), folder)
    else:
        edits = list(parent.structure["edits"])
        if result.structure is not None:
            edits.append({"technique": name, "structure": result.structure})
        save_module(result.model.eval(), parent.structure["builder"], edits, folder)
    return Artefact(folder, technique.gives)


def _card_module(name: str, baseline: Baseline) -> Any:
    other = load_baseline(find_card(name, baseline.document.path))
    return other.module((other.seeds() or [0])[0])


def store_onnx(source: Path, folder: Path) -> None:
    """Store an ONNX file and the files beside it that hold its weights."""
    if source.parent != folder or source.name != GRAPH:
        shutil.copyfile(source, folder / GRAPH)
        for file in external_files(source):
            target = folder / file.relative_to(source.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    write_structure(folder, "onnx")


def _content(folder: Path) -> str:
    structure = Artefact.open(folder).structure
    graph = structure["form"] == "onnx"
    files = [folder / GRAPH, *external_files(folder / GRAPH)] if graph else [folder / WEIGHTS]
    return "".join(file_digest(file) for file in files) + str(structure.get("edits"))


def artefact_result(folder: Path, spec: dict[str, Any], cost: Cost | None = None) -> dict[str, Any]:
    """Return the ledger of a stored artefact: work of one forward pass of one example, bytes, and what it cost to make."""
    import torch

    from efflab.profiling.work import count_module, count_onnx
    from efflab.profiling.work_by_input import count_by_input, is_input_dependent

    artefact = Artefact.open(folder)
    task = task_of(spec).for_model(artefact.interface)
    size = artefact.interface.batch or 1
    if artefact.form == "onnx":
        work = count_onnx(artefact.onnx, example_shapes(artefact.onnx, task))
    elif is_input_dependent(module := artefact.module()):
        work = count_by_input(module, task)
    else:
        example = (torch.from_numpy(array[:size]) for array in task.split("validation").inputs)
        work = count_module(module, tuple(like_parameters(one, module) for one in example))
        for name in ("macs", "effective_macs", "bit_operations"):
            work[name] = work[name] // size
    spent = cost or Cost()
    return {
        "form": artefact.form,
        "batch": artefact.interface.batch,
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

    size = task.interface.batch or QUALITY_BATCH
    scores = evaluate(ModuleSession(module.eval(), torch.float32), task, "validation", size)
    return float(task.quality(scores))


def run_quality(
    spec: dict[str, Any], needs: list[Path], folder: Path, report: Report, split_name: SplitName = "test"
) -> dict[str, Any]:
    """Score an artefact on the test split, on one backend, keeping every example's outcome."""
    from efflab.profiling.quality import evaluate
    from efflab.study import SAME_QUALITY, pack_scores

    artefact = Artefact.open(needs[0])
    task = task_of(spec).for_model(artefact.interface)
    backend = registry.load("backends", spec["backend"])(**spec["settings"])
    split = task.split(split_name)
    size = artefact.interface.batch or min(QUALITY_BATCH, len(split))
    with in_words(spec["backend"], None, type(backend), "run"):
        session = backend.prepare(artefact, tuple(array[:size] for array in split.inputs), 1)
        scores = evaluate(session, task, split, size)
    value = float(task.quality(scores))
    if not 0 <= value <= 1:
        what = f"task {spec['task']['name']} gives a {task.metric} of {value:.6g}, and efflab takes shares from 0 to 1"
        raise RequestError(f"{what}; give a metric that is one, such as 1 / (1 + perplexity)")
    if scores.ndim == 1 and abs(float(scores.mean(dtype=float)) - value) > SAME_QUALITY:
        scores = scores[:, None]  # kept as statistics of each example: their mean is not the metric
    return {"metric": task.metric, "value": value, "scores": pack_scores(scores)}


EXECUTE: dict[str, Callable[..., dict[str, Any]]] = {
    "baseline": run_baseline,
    "step": run_step,
    "quality": run_quality,
    "validation": partial(run_quality, split_name="validation"),  # what a search chooses by
}
