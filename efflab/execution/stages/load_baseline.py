"""Loads a baseline: checks what a card names, and stores the model as an artefact."""

from __future__ import annotations

from pathlib import Path

from efflab.artefacts.artefact import GRAPH, Artefact, save_module, write_interface, write_structure
from efflab.artefacts.graph_files import external_files, save_graph
from efflab.artefacts.interface import graph_ports
from efflab.artefacts.made import store_onnx
from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.model_check import check_steady, input_order, look_at
from efflab.contracts.task import Task
from efflab.foundation.errors import RequestError
from efflab.model_surgery.quantization.float_graph import load_whole
from efflab.plan.stage_results import Made
from efflab.plan.stage_specs import LoadBaseline
from efflab.profiling.work_of_artefact import artefact_result


def run_baseline(spec: LoadBaseline, folder: Path) -> Made:
    """Check a card's weights (or ONNX file, or checkpoint, which is exported) and store the model as an artefact."""
    baseline, task = load_baseline(Path(spec.card)), spec.task.load()
    if baseline.card.hugging_face and baseline.form == "onnx":
        from efflab.cards.hugging_face.export import export_checkpoint

        if baseline.content(spec.seed) != spec.content:
            raise RequestError(f"the model of {baseline.name} has changed since the plan was made; plan again")
        export_checkpoint(baseline.checkpoint(), task, folder / GRAPH)
        write_structure(folder, "onnx")
    elif baseline.form == "onnx":
        _take_graph(baseline, task, folder)
    else:
        save_module(baseline.module(spec.seed), baseline.builder(), [], folder)
    try:
        write_interface(folder, look_at(Artefact.open(folder), task, baseline.card.output))
        artefact = Artefact.open(folder)
        check_steady(artefact, task.for_model(artefact.interface))
    except RequestError as error:
        raise error.at(baseline.source()) from error
    return Made(**artefact_result(folder, task))


def _take_graph(baseline: Baseline, task: Task, folder: Path) -> None:
    """Store a card's ONNX file, its inputs in the order of the task's arrays, and weights that lie beside it within it."""
    path, card = baseline.onnx_file(), baseline.card
    given, _ = graph_ports(path)
    order = input_order(given, task, card.inputs)
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
