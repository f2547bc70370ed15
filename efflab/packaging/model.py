"""Writes a stored artefact as a file that its own library loads: an ONNX graph as it is, a module as a torch.export program."""

from __future__ import annotations

import inspect
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.artefact import GRAPH, Artefact
from efflab.artefacts.graph_files import data_names
from efflab.contracts.backend import Arrays
from efflab.foundation.errors import RequestError
from efflab.foundation.wording import one_line

if TYPE_CHECKING:
    import torch

PROGRAM = "model.pt2"
UNPACKING = {"DequantizeLinear", "MatMulNBits"}  # what graphs with integer weights and float activations have
# How far an output may lie from what efflab got, as a share of the largest, on another processor or with another release.
# Other kernels for the same graphs of `recipes/digits.yaml` (a runtime's optimisations off, another runtime) leave 5e-7 in
# float32, 6e-3 in bfloat16 and 2e-2 in int8.
TOLERANCES = {
    "float32": (1e-4, "24 bits: sums in another order"),
    "float16": (5e-3, "11 bits in the arithmetic"),
    "bfloat16": (2e-2, "8 bits in the arithmetic"),
    "integer weights": (1e-4, "float32 sums in another order"),
    "int8": (5e-2, "one step of 8 bits more or less where a value lies midway between two"),
}


@dataclass(frozen=True)
class ModelFile:
    """The files of a model, and what it takes and gives."""

    files: tuple[str, ...]  # the model's own first
    inputs: list[dict[str, Any]]  # name, shape (free axes as words), dtype
    outputs: tuple[str, ...]  # names; of a program as many as there are
    numbers: str  # key of TOLERANCES


def write_model(artefact: Artefact, examples: Arrays, outputs: int, folder: Path) -> ModelFile:
    """Write the model into `folder`; raise RequestError if it has no form that runs by itself.

    outputs: how many arrays it gives.
    """
    if artefact.form == "onnx":
        return _copy_graph(artefact.onnx, folder)
    module = artefact.module().requires_grad_(False)
    return _save_program(module, examples, outputs, folder / PROGRAM)


def _copy_graph(graph: Path, folder: Path) -> ModelFile:
    import onnx

    from efflab.model_surgery.quantization.already_quantized import QUANTIZED

    model = onnx.load(str(graph), load_external_data=False)
    files = (GRAPH, *external_files(model, graph.parent))
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(graph.parent / name, folder / name)
    stored = {one.name for one in model.graph.initializer}
    inputs = [_taken(value) for value in model.graph.input if value.name not in stored]
    halves = any(one.data_type == onnx.TensorProto.FLOAT16 for one in model.graph.initializer)
    kinds = {node.op_type for node in model.graph.node} & QUANTIZED
    # weights that are unpacked and multiplied in float have float's accuracy
    whole = "int8" if kinds - UNPACKING else "integer weights" if kinds else ""
    numbers = whole or ("float16" if halves else "float32")
    return ModelFile(files, inputs, tuple(value.name for value in model.graph.output), numbers)


def external_files(model: Any, folder: Path) -> tuple[str, ...]:
    """Return the names of the files beside an ONNX graph that hold its weights; raise RequestError if one is elsewhere."""
    names = data_names(model)
    for name in names:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise RequestError(f"{folder / GRAPH} keeps weights in {name}, which is not in its folder")
    return tuple(names)


def _taken(value: Any) -> dict[str, Any]:
    """Return name, shape and dtype of a graph's input; a free axis has the graph's word for it."""
    import numpy as np
    from onnx import helper

    kind = value.type.tensor_type
    axes = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "any" for axis in kind.shape.dim]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return {"name": value.name, "shape": axes, "dtype": str(dtype)}


def _save_program(module: torch.nn.Module, examples: Arrays, outputs: int, path: Path) -> ModelFile:
    import torch

    from efflab.artefacts.precision import Float32Edges, own_dtype
    from efflab.foundation.quiet import quiet

    dtype = own_dtype(module)
    wrapped = module if dtype == torch.float32 else Float32Edges(module, dtype)
    # a copy of the first examples: the trace must not depend on how many there are
    inputs = tuple(torch.tensor(array[:2]) for array in examples)
    batch = torch.export.Dim("batch")
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in inputs)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                wrapped, inputs, dynamic_shapes=shapes if wrapped is module else (shapes,)
            )  # the wrapper's are one *argument
            _strip(program)
            whole = io.BytesIO()  # written to a full disk, torch's own writer ends the process
            torch.export.save(program, whole)
    except Exception as error:
        reason = one_line(error.__cause__ or error)
        raise RequestError(
            f"the model cannot be written as a torch.export program with a free batch axis ({reason}); "
            "--onnx takes its ONNX graph, if one was measured"
        ) from error
    path.write_bytes(whole.getbuffer())
    taken = [
        {"name": name, "shape": ["batch", *array.shape[1:]], "dtype": str(array.dtype)}
        for name, array in zip(_names(module, len(examples)), examples, strict=True)
    ]
    return ModelFile((PROGRAM,), taken, tuple(f"output_{index}" for index in range(outputs)), str(dtype).split(".")[-1])


def _names(module: torch.nn.Module, count: int) -> list[str]:
    """Return what the module calls its inputs."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD][:count]
    return names if len(names) == count else [f"input_{index}" for index in range(count)]


def _strip(program: Any) -> None:
    """Take out what is of this machine and not of the model: lines of source files, and pickled sample inputs."""
    for part in program.graph_module.modules():
        for node in getattr(part, "graph", program.graph).nodes:
            node.meta.pop("stack_trace", None)
    program._example_inputs = None
