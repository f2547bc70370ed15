"""Hands on ONNX graphs: run one on the processor, find its data files, read a node's attributes and the axes of its weight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

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
    from efflab.artefacts.interface import Port, as_port

    inner = kind.removeprefix("tensor(").removesuffix(")")
    return as_port(array, Port("", {"float": "float32", "double": "float64"}.get(inner, inner), None))


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
