"""The files of an ONNX graph: the one that holds it, and those that hold its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from efflab.foundation.errors import RequestError
from efflab.foundation.files import real

MOST_BYTES = 1_900_000_000  # of one protobuf file; larger graphs keep their weights in a file beside it


DATA = ".data"  # suffix of that file


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
    folder = real(path.parent)
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
