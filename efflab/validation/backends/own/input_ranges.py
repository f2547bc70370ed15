"""Finds in a graph which whole numbers an input may hold: rows of a table, classes of a one-hot code, a mask, lengths.

An input is followed through operators that pass its values on (reshapes, casts, sums with constants) to those that limit them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from efflab.artefacts.graph_files import inner_graphs
from efflab.model_surgery.graphs.onnx_graph import attributes

SMALL = 1 << 16  # bytes of a constant whose values are looked at
MOST_STEPS = 20_000  # along the paths of an input
FEW = 7  # the largest value where the graph tells no limit
# operators that pass the values of these inputs on; of all inputs where none is named
PASSES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Expand", "Tile", "Slice"), (0,)),
    **dict.fromkeys(("Split", "Gather", "GatherElements", "GatherND", "Pad", "ReverseSequence", "Trilu", "Compress"), (0,)),
    **dict.fromkeys(("Abs", "ReduceMax", "ReduceMin", "Cast", "CastLike", "Dropout", "DepthToSpace", "SpaceToDepth"), (0,)),
    **dict.fromkeys(("Concat", "Max", "Min", "Clip"), ()), "Where": (1, 2),
}  # fmt: skip
COMPARES = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}


class Limit(NamedTuple):
    """The least and the largest value of an input, why, and single values of which the graph makes something."""

    low: int
    high: int
    why: str
    special: tuple[int, ...] = ()


class Facts(NamedTuple):
    """What is known of a graph: which nodes read a tensor and as which input, shapes, values of small constants."""

    readers: dict[str, list[tuple[Any, int]]]
    shapes: dict[str, list[int | None]]
    types: dict[str, int]
    constants: dict[str, np.ndarray]

    def size(self, name: str, axis: int) -> int | None:
        """Return how long an axis of a tensor is, None if that is not known."""
        shape = self.shapes.get(name)
        return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def without_weights(model: Any, folder: Path) -> Any:
    """Return a copy of a model that keeps only the values of small tensors; functions are written out."""
    import onnx
    import onnx.inliner
    from onnx.external_data_helper import load_external_data_for_tensor

    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        size = int(np.prod(tensor.dims, dtype=np.int64)) * 8
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            if size <= SMALL:
                load_external_data_for_tensor(tensor, str(folder))
        elif size > SMALL:
            kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            kept.data_location = onnx.TensorProto.EXTERNAL
            kept.external_data.add(key="location", value="elsewhere")
            tensor.CopyFrom(kept)
    return onnx.inliner.inline_local_functions(light) if light.functions else light


def facts_of(light: Any, shapes: Mapping[str, Sequence[int]]) -> Facts:
    """Return what is known of a graph (see `without_weights`) where its inputs have these shapes."""
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(light)
    for one in model.graph.input:
        for dim, size in zip(one.type.tensor_type.shape.dim, shapes.get(one.name, ()), strict=False):
            dim.dim_value = size
    with contextlib.suppress(Exception):  # what cannot be inferred is not known
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    facts = Facts({}, {}, {}, {})
    for graph in _graphs(model.graph):
        for one in (*graph.input, *graph.output, *graph.value_info):
            kind = one.type.tensor_type
            facts.types[one.name] = kind.elem_type
            if kind.HasField("shape"):
                facts.shapes[one.name] = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
        for tensor in graph.initializer:
            facts.shapes[tensor.name], facts.types[tensor.name] = [*tensor.dims], tensor.data_type
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                facts.constants[tensor.name] = numpy_helper.to_array(tensor)
        for node in graph.node:
            _note(node, facts)
    return facts


def _note(node: Any, facts: Facts) -> None:
    for index, name in enumerate(node.input):
        facts.readers.setdefault(name, []).append((node, index))
    values = attributes(node)
    if node.op_type == "Constant":
        from onnx import TensorProto, numpy_helper

        told = values.get("value", values.get("value_int", values.get("value_ints", values.get("value_float"))))
        if isinstance(told, TensorProto):
            told = numpy_helper.to_array(told) if told.data_location != TensorProto.EXTERNAL else None
        if told is not None:
            facts.constants[node.output[0]] = np.asarray(told)
    elif node.op_type in ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape") and node.input[0] in facts.constants:
        facts.constants[node.output[0]] = facts.constants[node.input[0]]  # read for its values only, not for its shape


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _graphs(inner)


def limit_of(name: str, facts: Facts, length: int) -> Limit | None:
    """Return the limit of the values of an input; None where the graph tells none.

    length: the size of the free axes that are no batch, for inputs that are lengths by their name.
    """
    found: list[tuple[int, int, str]] = []
    special: set[int] = set()
    waiting, seen = [(name, 0, 0)], {(name, 0, 0)}
    while waiting and len(seen) < MOST_STEPS:
        tensor, least, most = waiting.pop()  # values of the input plus least to most
        for node, index in facts.readers.get(tensor, ()):
            told = _limit(node, index, facts)
            if told is not None:
                found.append((told[0] - least, told[1] - most, told[2]))
            if node.op_type in COMPARES:
                special |= {value - least for value in _whole(facts.constants.get(node.input[1 - index]))}
            moved = _moved(node, index, facts)
            if moved is not None:
                fresh = {(one, least + moved[0], most + moved[1]) for one in node.output if one} - seen
                seen |= fresh
                waiting += sorted(fresh)
    low = max([0, *(one[0] for one in found)])
    # a limit below that is of a path for other values, as the sum that turns negative rows into rows from the end
    high = min((one[1] for one in found if one[1] >= low), default=-1)
    if found and low <= high:
        why = " and ".join(dict.fromkeys(one[2] for one in found))
        return Limit(low, high, why, tuple(sorted(value for value in special if low <= value <= high)))
    if "mask" in name.lower():
        return Limit(0, 1, "a mask by its name")
    if special == {0}:
        return Limit(0, 1, "a mask: it is compared with 0 only")
    if special:
        least, most = min(0, *special), max(0, *special) + 1
        return Limit(least, most, "about what it is compared with", tuple(sorted(special)))
    if "len" in name.lower() and length > 1:
        return Limit(1, length, "lengths by its name")
    return None


def _moved(node: Any, index: int, facts: Facts) -> tuple[int, int] | None:
    """Return what a node adds to the values that it passes on, least and most; None where it makes other values of them."""
    kind = node.op_type
    if kind in PASSES:
        return (0, 0) if index in (PASSES[kind] or range(len(node.input))) else None
    if kind in ("Add", "Sub") and (kind == "Add" or index == 0):
        other = _whole(facts.constants.get(node.input[1 - index]))
        if other:
            return (min(other), max(other)) if kind == "Add" else (-max(other), -min(other))
    return None


def _limit(node: Any, index: int, facts: Facts) -> tuple[int, int, str] | None:
    """Return the least and largest value that a node takes as its input `index`, and why; None where it takes any."""
    kind, names = node.op_type, node.input
    settings = attributes(node)

    def below(source: int, axis: int, what: str, least: int = 0, more: int = 0) -> tuple[int, int, str] | None:
        size = facts.size(names[source], axis) if source < len(names) else None
        return (least, size - 1 + more, what) if size else None

    table = f"rows of {names[0]!r}"
    match kind, index:
        case ("Gather" | "GatherElements" | "ScatterElements" | "Scatter" | "GatherBlockQuantized", 1):
            return below(0, settings.get("gather_axis" if "Block" in kind else "axis", 0), table)
        case ("GatherND" | "ScatterND", 1):
            first = settings.get("batch_dims", 0)
            sizes = [size for size in facts.shapes.get(names[0], [])[first:] if size]
            count = facts.size(names[1], -1) or len(sizes)
            return (0, min(sizes[:count]) - 1, table) if sizes[:count] else None
        case ("EmbedLayerNormalization" | "QEmbedLayerNormalization", 0 | 1):
            return below(2 + 2 * index, 0, f"rows of {names[2 + 2 * index]!r}" if len(names) > 4 else table)
        case ("OneHot", 0):
            depth = _whole(facts.constants.get(names[1]))
            return (0, depth[0] - 1, "classes of a one-hot code") if depth and depth[0] > 0 else None
        case ("LSTM" | "GRU" | "RNN", 4):
            return below(0, 1 if settings.get("layout", 0) else 0, "lengths of sequences", 1, 1)
        case ("ReverseSequence", 1):
            return below(0, settings.get("time_axis", 0), "lengths of sequences", 1, 1)
        case ("TopK", 1):
            return below(0, settings.get("axis", -1), "how many of an axis", 1, 1)
        case ("CumSum", 1):
            rank = len(facts.shapes.get(names[0], []))
            return (0, rank - 1, "an axis") if rank else None
        case ("Not" | "And" | "Or" | "Xor", _) | ("Where", 0) | ("Compress", 1) | ("If", 0):
            return 0, 1, "a mask"
        case ("Cast", 0) if settings.get("to") == 9:  # bool
            return 0, 1, "a mask"
        case ("Sub", 1) if _whole(facts.constants.get(names[0])) == [1]:  # 1 - mask
            return 0, 1, "a mask"
        case ("EmbedLayerNormalization" | "QEmbedLayerNormalization", 7):
            return 0, 1, "a mask"
        case ("Div" | "Mod", 1):
            return 1, FEW, "a divisor"
        case (
            ("OneHot", 1)
            | ("ConstantOfShape", 0)
            | ("Expand", 1)
            | ("NonMaxSuppression", 2)
            | ("Loop", 0)
            | ("Range", 1)
        ):
            return 1, FEW, "a size"
        case ("Tile", 1):
            return 1, 2, "repeats"
        case ("Reshape", 1) | ("Slice", 1) | ("Range", 0):
            return 0, 0, "a shape or a start"
        case ("Pad", 1):
            return 0, 1, "padding"
        case ("Range", 2) | ("Slice", 4):
            return 1, 1, "a step"
    return None


def _whole(values: np.ndarray | None) -> list[int]:
    """Return the values of a constant as whole numbers; none where it has others, or is large."""
    if values is None or not 0 < values.size <= 4096 or values.dtype.kind not in "iuf":
        return []
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        return []
    return list(dict.fromkeys(int(value) for value in values.ravel() if abs(int(value)) < 1 << 31))


def constant_axes(light: Any, names: Iterable[str]) -> dict[tuple[str, int], int]:
    """Return the sizes of free axes that weights tell: channels of a convolution, and the inner axis of a product."""
    weights = {one.name: [*one.dims] for one in light.graph.initializer}
    wanted, found = {*names}, dict[tuple[str, int], int]()
    for node in light.graph.node:
        if len(node.input) < 2 or node.input[0] not in wanted or node.input[1] not in weights:
            continue
        shape, settings = weights[node.input[1]], attributes(node)
        if node.op_type == "Conv" and len(shape) > 2:
            found[node.input[0], 1] = shape[1] * settings.get("group", 1)
        elif node.op_type == "Gemm" and len(shape) == 2:
            found[node.input[0], 0 if settings.get("transA", 0) else 1] = shape[1 if settings.get("transB", 0) else 0]
        elif node.op_type == "MatMul" and len(shape) >= 2:
            found[node.input[0], -1] = shape[-2]
    return found
