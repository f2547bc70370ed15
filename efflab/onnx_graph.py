"""Hands on ONNX graphs: run one on the processor, find its data files, read a node's attributes and the axes of its weight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 1_900_000_000  # of one protobuf file; larger graphs keep their weights in a file beside it
DATA = ".data"  # suffix of that file


def open_graph(model: Path | bytes, threads: int = 1, optimised: bool = True) -> Any:
    """Open an ONNX file, or a serialised model, in ONNX Runtime on so many processor threads.

    optimised: as usual; without it every operator is computed as it stands, quantised ones in float32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def feed_of(session: Any, arrays: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Return arrays by the names of an ONNX Runtime session's inputs, in its order and element types."""
    given = session.get_inputs()
    return {value.name: cast_as(array, value.type) for value, array in zip(given, arrays, strict=True)}


def cast_as(array: np.ndarray, kind: str) -> np.ndarray:
    """Return an array in ONNX Runtime's type `kind`, such as tensor(float16), if that holds the same kind of numbers."""
    from efflab.interface import Port, as_port

    inner = kind.removeprefix("tensor(").removesuffix(")")
    return as_port(array, Port("", {"float": "float32", "double": "float64"}.get(inner, inner), None))


def external_files(path: Path) -> list[Path]:
    """Return the files in which a graph keeps its weights beside itself; raise RequestError for one elsewhere."""
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no common, public base
        raise RequestError(f"{path.name} is no readable ONNX file ({type(error).__name__})") from error
    names = {
        entry.value
        for tensor in _get_all_tensors(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    folder = path.parent.resolve()
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder):
            raise RequestError(f"{path.name} keeps weights in {name}, which lies outside its folder; move it beside it")
    return [path.parent / name for name in sorted(names)]


def save_graph(model: Any, path: Path) -> None:
    """Write a graph as one file, or, where that would be too large, with its weights in a file beside it."""
    import onnx

    large = model.ByteSize() > MOST_BYTES
    beside = path.name + DATA
    (path.parent / beside).unlink(missing_ok=True)  # onnx would append to it
    if large:
        onnx.save(model, str(path), save_as_external_data=True, all_tensors_to_one_file=True, location=beside)
    else:
        onnx.save(model, str(path))


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def weight_axes(node: Any, ndim: int) -> tuple[int, int]:
    """Return the axes of a node's stored weight that count its outputs and its inputs (of a group, for convolutions).

    MatMul with weights of more than two axes multiplies matrices one by one: the last two axes are theirs.
    """
    if node.op_type == "Conv":
        return 0, 1
    if node.op_type == "ConvTranspose":
        return 1, 0
    if node.op_type == "Gemm" and attributes(node).get("transB", 0):
        return 0, 1
    return max(ndim - 1, 0), max(ndim - 2, 0)
