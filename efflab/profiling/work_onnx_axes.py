"""The free axes of an ONNX graph's inputs: their lengths for one example, and how many examples a run has."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from efflab.foundation.errors import RequestError, nearest
from efflab.model_surgery.graphs.onnx_shapes import Shape

Symbol = str | tuple[str, int]  # the name of a free axis, or, where it has none, its input and place


@dataclass(frozen=True)
class Axes:
    """What is known of the inputs' axes once lengths are filled in."""

    examples: int  # in one run of the graph
    unclear: str = ""  # why `examples` may be wrong
    free: dict[str, set[str]] = field(default_factory=dict)  # input -> its axes whose length is not known, in words


def fill_axes(graph: onnx.GraphProto, stored: Collection[str], shapes: Mapping[str, Shape] | None = None) -> Axes:
    """Give the free axes of the graph's inputs the lengths that one example has, in place.

    shapes: of one example's inputs by name, the axis of the batch with length 1. Axes with one symbol get one length.
    Without it the batch alone is set, to 1. A fixed batch stays, and is divided out: it is the first axis of inputs and
    outputs, or the axis whose length in `shapes` is 1.
    Raises RequestError if `shapes` does not fit the graph.
    """
    inputs = [one for one in graph.input if one.name not in stored and one.type.HasField("tensor_type")]
    for value in inputs:
        for axis in value.type.tensor_type.shape.dim:
            if axis.HasField("dim_value") and axis.dim_value <= 0:  # how some converters write a free axis
                axis.ClearField("dim_value")
    batches = _fill(inputs, shapes) if shapes else _batches(inputs, graph.output)
    if symbols := _batch_symbols(inputs, graph.output):
        _set(inputs, dict.fromkeys(symbols, 1))
        batches = batches if shapes else {1}
    unclear = ""
    if len(batches) > 1:
        unclear = f"unknown size of the batch: {' or '.join(str(one) for one in sorted(batches))}"
    return Axes(1 if unclear else max(batches, default=1), unclear, _free(inputs))


def _free_axes(value: onnx.ValueInfoProto) -> Iterator[tuple[int, Symbol]]:
    """Yield the places and symbols of the axes that have no length."""
    for place, axis in enumerate(value.type.tensor_type.shape.dim):
        if not axis.HasField("dim_value"):
            yield place, axis.dim_param or (value.name, place)


def _set(inputs: Iterable[onnx.ValueInfoProto], lengths: Mapping[Symbol, int]) -> None:
    for value in inputs:
        for place, symbol in list(_free_axes(value)):
            if symbol in lengths:
                value.type.tensor_type.shape.dim[place].dim_value = lengths[symbol]


def _fill(inputs: Iterable[onnx.ValueInfoProto], shapes: Mapping[str, Shape]) -> set[int]:
    """Give free axes the lengths of an example; return the examples in a run, as each input's batch axis tells them."""
    by_name = {value.name: value for value in inputs}
    lengths: dict[Symbol, int] = {}
    batches = set()
    for name, shape in shapes.items():
        if name not in by_name:
            raise RequestError(f"the ONNX graph has no input {name!r}; {nearest(name, by_name)}")
        tensor = by_name[name].type.tensor_type
        if not tensor.HasField("shape"):
            tensor.shape.SetInParent()
            tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in shape)
        if len(tensor.shape.dim) != len(shape):
            what = f"has {len(tensor.shape.dim)} axes in the ONNX graph and {len(shape)} in the example"
            raise RequestError(f"input {name!r} {what}")
        for place, symbol in _free_axes(by_name[name]):
            if lengths.setdefault(symbol, shape[place]) != shape[place]:
                what = f"has the lengths {lengths[symbol]} and {shape[place]} in one example"
                raise RequestError(f"the axis {symbol!r} of the ONNX graph {what}")
        batches |= _batch(tensor.shape.dim, shape)
    _set(inputs, lengths)
    return batches


def _batch(axes: Sequence[onnx.TensorShapeProto.Dimension], shape: Shape) -> set[int]:
    """Return the examples in a run by one input, or nothing if its shape does not tell."""
    odd = [
        place
        for place, (axis, length) in enumerate(zip(axes, shape, strict=True))
        if length == 1 and axis.dim_value != 1
    ]
    if not odd or (shape[0] != 1 and len(odd) > 1):
        return set()
    return {axes[odd[0]].dim_value or 1} if odd[0] == 0 or shape[0] != 1 else set()


def _first(value: onnx.ValueInfoProto) -> onnx.TensorShapeProto.Dimension | None:
    axes = value.type.tensor_type.shape.dim
    return axes[0] if axes else None


def _batches(inputs: Iterable[onnx.ValueInfoProto], outputs: Iterable[onnx.ValueInfoProto]) -> set[int]:
    """Return the examples in a run of a graph with a fixed batch: the first axis of inputs and of some output."""
    shapes = (value.type.tensor_type.shape.dim for value in inputs)
    firsts = {axes[0].dim_value for axes in shapes if len(axes) > 1} - {0}
    made = {axis.dim_value for value in outputs if (axis := _first(value)) is not None} - {0}
    if firsts in (set(), {1}) or not made:
        return firsts
    return firsts & made or firsts | made


def _batch_symbols(inputs: Iterable[onnx.ValueInfoProto], outputs: Iterable[onnx.ValueInfoProto]) -> set[Symbol]:
    """Return the symbols of axes that count examples.

    It is what is called batch, or else the first axis of an input that is also that of an output. Where neither tells, it
    is every free first axis, except those that stand beside the first of them in an input.
    """
    rows = [dict(_free_axes(value)) for value in inputs]
    firsts = [row[0] for row in rows if 0 in row]
    named = [symbol for row in rows for symbol in row.values() if isinstance(symbol, str) and "batch" in symbol.lower()]
    if named:
        return {symbol for symbol in firsts if symbol in named} or {named[0]}
    made = [axis.dim_param for value in outputs if (axis := _first(value)) is not None]
    if found := [symbol for symbol in made if symbol in firsts]:
        return {found[0]}
    beside = {symbol for row in rows if firsts and firsts[0] in row.values() for symbol in row.values()}
    return {symbol for symbol in firsts if symbol == firsts[0] or symbol not in beside}


def _free(inputs: Iterable[onnx.ValueInfoProto]) -> dict[str, set[str]]:
    """Return the inputs with axes of unknown length, and those axes in words."""
    free: dict[str, set[str]] = {}
    for value in inputs:
        if not value.type.tensor_type.HasField("shape"):
            free[value.name] = {f"unknown shape of input {value.name}"}
        for place, symbol in _free_axes(value):
            axis = json.dumps(symbol) if isinstance(symbol, str) else str(place)
            free.setdefault(value.name, set()).add(f"free axis {axis} of input {value.name}")
    return free
