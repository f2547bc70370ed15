"""The work of any stored model: a module, one whose work depends on its input, or a graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efflab.artefacts.artefact import Artefact
from efflab.artefacts.interface import graph_ports
from efflab.contracts.examples import like_parameters, typical_inputs
from efflab.contracts.task import Task
from efflab.records.cost import Cost
from efflab.records.record import Work


def artefact_result(folder: Path, task: Task, cost: Cost | None = None) -> dict[str, Any]:
    """Return the ledger of a stored artefact: work of one forward pass of one example, bytes, and what it cost to make."""
    import torch

    from efflab.profiling.work_by_input import count_by_input, is_input_dependent
    from efflab.profiling.work_module import count_module

    artefact = Artefact.open(folder)
    task = task.for_model(artefact.interface)
    size = artefact.interface.batch or 1
    if artefact.form == "onnx":
        work = count_onnx(artefact.onnx, example_shapes(artefact.onnx, task))
    elif is_input_dependent(module := artefact.module()):
        work = count_by_input(module, task)
    else:
        example = (torch.from_numpy(array) for array in typical_inputs(task.split("validation"), size))
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


def count_onnx(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Work:
    """Count the graph of an ONNX file for one example; see `work_onnx.count`.

    shapes: of one example's inputs by name, the axis of the batch with length 1; they fill the graph's free axes.
    """
    from efflab.profiling import work_onnx

    return work_onnx.count(path, shapes)


def example_shapes(path: Path, task: Task) -> dict[str, tuple[int, ...]]:
    """Return the shape of one example for each input of a graph, in its order: at these its work is counted."""
    arrays = typical_inputs(task.split("validation"))
    return {port.name: (1, *array.shape[1:]) for port, array in zip(graph_ports(path)[0], arrays, strict=True)}
