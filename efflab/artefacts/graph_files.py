"""The files of an ONNX graph: the one that holds it, and those that hold its weights."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from efflab.foundation.errors import RequestError
from efflab.foundation.files import is_file, real

MOST_PER_BYTE = 4  # numbers; the smallest have two bits
MOST_BYTES = 1_900_000_000  # of one protobuf file; larger graphs keep their weights in a file beside it


DATA = ".data"  # suffix of that file


def data_names(model: Any) -> list[str]:
    """Return the names of the files in which a model that was read without them keeps its weights."""
    from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

    return sorted({ExternalDataInfo(one).location for one in _get_all_tensors(model) if uses_external_data(one)})


def read_graph(path: Path) -> Any:
    """Return the model of an ONNX file, without the weights beside it.

    Raises RequestError for a file that cannot be read, and for one whose tensors say that they are larger than what holds them.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no common, public base
        raise RequestError(f"{path.name} is no readable ONNX file ({type(error).__name__})") from error
    for tensor, held in _tensors(model, path.parent):
        count = prod(tensor.dims)
        if count > MOST_PER_BYTE * held or any(side < 0 for side in tensor.dims):
            what = f"says a size of {' x '.join(map(str, tensor.dims))}, and {held:,} bytes hold it"
            raise RequestError(f"{path.name}: the tensor {tensor.name!r} {what}; bring the file as it was written")
    return model


def _tensors(model: Any, folder: Path) -> Iterator[tuple[Any, int]]:
    """Yield each stored tensor of a model with the bytes that hold it, as far as its file is there."""
    from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

    for tensor in _get_all_tensors(model):
        if not uses_external_data(tensor):
            yield tensor, tensor.ByteSize()
        elif is_file(file := folder / ExternalDataInfo(tensor).location):
            yield tensor, file.stat().st_size


def external_files(path: Path) -> list[Path]:
    """Return the files in which a graph keeps its weights beside itself; raise RequestError for one elsewhere."""
    names, folder = data_names(read_graph(path)), real(path.parent)
    for name in names:
        if "\0" in name or not real(folder / name).is_relative_to(folder):
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
