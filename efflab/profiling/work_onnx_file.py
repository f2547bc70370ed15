"""Reads an ONNX file for the ledger: data files beside it, model functions written out, every constant a dense tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.inliner
from onnx import TensorProto, numpy_helper

from efflab.artefacts.graph_files import external_files
from efflab.foundation.errors import RequestError
from efflab.model_surgery.graphs.onnx_graph import attributes, store_densely


def load(path: Path) -> tuple[onnx.ModelProto, int]:
    """Return the model of an ONNX file, and the bytes of the file and of its data files.

    Raises RequestError if a file is missing or cut short, or is no ONNX model.
    """
    if not path.is_file():
        raise RequestError(f"{path}: there is no such file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors have no common, public base
        raise RequestError(f"{path}: not a readable ONNX model ({type(error).__name__})") from error
    files = external_files(path)
    for file in files:
        if not file.is_file():
            raise RequestError(
                f"{path.name} keeps weights in {file}, and there is no such file; put it beside {path.name}"
            )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        for tensor in model.graph.initializer:
            numpy_helper.to_array(tensor)
    except Exception as error:
        kept = f" in {', '.join(str(file) for file in files)}" if files else ""
        raise RequestError(f"{path}: not a readable ONNX model: its weights{kept} are broken ({error})") from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    store_densely(model.graph)
    return model, sum({file.resolve(): file.stat().st_size for file in (path, *files)}.values())


def stored_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield the names and values of the graph's initializers and constants."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and (value := attributes(node).get("value")) is not None:
            yield node.output[0], value
