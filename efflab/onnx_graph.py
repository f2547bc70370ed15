"""Hands on ONNX graphs: run one on the processor, find its data files, read a node's attributes and the axes of its weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 1_900_000_000  # of one protobuf file; larger graphs keep their weights in a file beside it
DATA = ".data"  # suffix of that file
NUMBERS = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}  # short forms of Constant


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


def data_names(model: Any) -> list[str]:
    """Return the names of the files in which a model that was read without them keeps its weights."""
    from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

    return sorted({ExternalDataInfo(one).location for one in _get_all_tensors(model) if uses_external_data(one)})


def external_files(path: Path) -> list[Path]:
    """Return the files in which a graph keeps its weights beside itself; raise RequestError for one elsewhere."""
    import onnx

    try:
        names = data_names(onnx.load(str(path), load_external_data=False))
    except Exception as error:  # protobuf's errors have no common, public base
        raise RequestError(f"{path.name} is no readable ONNX file ({type(error).__name__})") from error
    folder = path.parent.resolve()
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder):
            raise RequestError(f"{path.name} keeps weights in {name}, which lies outside its folder; move it beside it")
    return [path.parent / name for name in names]


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


def inner_graphs(node: Any) -> list[Any]:
    """Return the graphs that are attributes of a node, as those of If and Loop."""
    return [graph for one in node.attribute for graph in ([one.g] if one.HasField("g") else one.graphs)]


def graphs_of(graph: Any) -> Iterator[Any]:
    """Yield a graph (or the body of a function), and the bodies of its loops and branches, at every depth."""
    yield graph
    for node in graph.node:
        for body in inner_graphs(node):
            yield from graphs_of(body)


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def store_densely(graph: Any) -> None:
    """Turn sparse tensors of a graph, and constants that are written as bare numbers, into plain tensors, in place."""
    import numpy as np
    from onnx import helper, numpy_helper

    graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for node in graph.node:
        found = attributes(node) if node.op_type == "Constant" else {}
        for name in found.keys() & {"sparse_value", *NUMBERS}:
            value = found[name]
            sparse = name == "sparse_value"
            dense = _dense(value) if sparse else numpy_helper.from_array(np.array(value, NUMBERS[name]))
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", dense))


def _dense(sparse: Any) -> Any:
    """Return a sparse tensor in full; its places are counted along the whole tensor, or axis by axis."""
    import numpy as np
    from onnx import numpy_helper

    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        dense.reshape(-1)[places] = values
    else:
        dense[tuple(places.T)] = values
    return numpy_helper.from_array(dense, sparse.values.name)


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
