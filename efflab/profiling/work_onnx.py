"""The MAC ledger of an ONNX graph, from its operators, inferred shapes and stored weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from efflab.artefacts.graph_files import graphs_of
from efflab.foundation.errors import RequestError
from efflab.model_surgery.graphs.onnx_graph import attributes
from efflab.model_surgery.graphs.onnx_shapes import Shape, shapes_and_types
from efflab.profiling.ledger import Ledger
from efflab.profiling.work_onnx_axes import fill_axes
from efflab.profiling.work_onnx_file import load, stored_tensors
from efflab.profiling.work_onnx_formulas import OPERANDS, has_formula, products
from efflab.records.record import Work

ZeroPoint = tuple[str, int]  # name of its tensor ("" = none), axis along which it varies

SAME_NUMBERS = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
PARTS = {"Concat", "Split", "Slice", "Expand"}  # each number is one of an input
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "PRelu"}
# operator -> places of what else it learned
LEARNED = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm"), (2,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (2, 3)),
    **dict.fromkeys(("QGemm", "MatMulIntegerToFloat"), (6,)),
    "QLinearConv": (8,),
    "DynamicQuantizeMatMul": (4,),
    # the mean and variance of a batch norm (3 and 4) are statistics
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "GroupNormalization"), (1, 2)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), (1, 2)),
    "SkipLayerNormalization": (2, 3, 4),
    "Gather": (0,),  # embeddings
    **dict.fromkeys(ELEMENTWISE, (0, 1)),
}
# operator on integers -> (place of the weight's zero point, axis along which it varies)
ZERO_POINT = {
    **dict.fromkeys(("QLinearMatMul", "QGemm"), (5, -1)),
    **dict.fromkeys(("MatMulInteger", "DynamicQuantizeMatMul"), (3, -1)),
    "MatMulIntegerToFloat": (5, -1),
    "QLinearConv": (5, 0),
    "ConvInteger": (3, 0),
}
FLOATS = {kind for name, kind in TensorProto.DataType.items() if "FLOAT" in name or name == "DOUBLE"}
BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.INT2, TensorProto.UINT2), 2),
}


def count(path: Path, shapes: Mapping[str, Shape] | None = None) -> Work:
    """Count an ONNX file for one example.

    shapes: of one example's inputs by name, the axis of the batch with length 1; they fill the graph's free axes, axes
    with one symbol alike. Without them the free axis of the batch is taken as 1, other free axes have no length. A fixed
    batch is divided out.

    `params` are the stored numbers that enter a product, a normalisation, an embedding or an elementwise operator as
    weight or bias (through DequantizeLinear or not); scales, zero points, shapes and running statistics are none.
    `uncounted` lists the operators that have no formula or whose shapes cannot be known, those behind free axes under the
    names of the axes; and a batch whose size cannot be known. Raises RequestError if the file, or a data file that it
    names, is missing or unreadable, or if `shapes` does not fit it.
    """
    model, artefact_bytes = load(path)
    graph = _Graph(model, shapes)
    ledger = Ledger()
    for node in graph.nodes:
        found = products(graph.shapes, node)
        if found is None:
            ledger.uncounted[graph.reason(node)] += 1
        elif found:
            ledger.counted += 1
            for macs, left, right in found:
                bits = graph.bits(node, left) * graph.bits(node, right)
                ledger.add(macs, graph.share(node, left) * graph.share(node, right), bits)
    if graph.axes.unclear:
        ledger.uncounted[graph.axes.unclear] += 1
    return ledger.work(
        params=sum(size for size, _ in graph.learned.values()),
        nonzero_params=sum(nonzero for _, nonzero in graph.learned.values()),
        artefact_bytes=artefact_bytes,
        examples=graph.axes.examples,
    )


def macs_by_node(path: Path, shapes: Mapping[str, Shape] | None = None) -> dict[str, int]:
    """Return the MACs of each node that has a formula and known shapes, for one example, by the node's name.

    shapes: as of `count`. Callers give these nodes names of their own first: raises ValueError for one that has none, or
    another node's.
    """
    graph = _Graph(load(path)[0], shapes)
    taken = Counter(node.name for node in graph.nodes)
    by_name = {}
    for place, node in enumerate(graph.nodes):
        if found := products(graph.shapes, node):
            if not node.name or taken[node.name] > 1:
                what = f"shares its name {node.name!r}" if node.name else "has no name"
                raise ValueError(
                    f"node {place} of {path.name}, a {node.op_type}, {what}; give every node its own first"
                )
            by_name[node.name] = sum(macs for macs, _, _ in found) // graph.axes.examples
    return by_name


class _Graph:
    """A graph with the shapes and types of its tensors for one run, and a way back from operands to stored weights."""

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, Shape] | None):
        graph = model.graph
        self.nodes = list(graph.node)
        self.stored = dict(stored_tensors(graph))
        self.made_by = _makers(self.nodes)
        self.axes = fill_axes(graph, self.stored.keys(), shapes)
        inputs = [value for value in graph.input if value.name not in self.stored]
        counted = [node for node in self.nodes if has_formula(node)]
        needed = {name for node in counted for name in (*node.input, node.output[0]) if name}
        self.shapes, self.types = shapes_and_types(model, inputs, needed - self.stored.keys())
        for name, tensor in self.stored.items():
            self.shapes[name], self.types[name] = tuple(tensor.dims), tensor.data_type
        self.free = dict(self.axes.free)  # tensor -> the free axes behind it, in words
        for node in self.nodes:
            if behind := set().union(*(self.free.get(name, ()) for name in node.input)):
                self.free.update(dict.fromkeys(node.output, behind))
        self.learned: dict[str, tuple[int, int]] = {}
        for node in self.nodes:
            for place in (*OPERANDS.get(node.op_type, ()), *LEARNED.get(node.op_type, ())):
                if place < len(node.input) and node.input[place]:
                    self._learn(node, place)
        self._learn_in_bodies(graph)

    def reason(self, node: onnx.NodeProto) -> str:
        """Say in a few words why a node is not counted: the free axes that its inputs depend on, or what it is."""
        names = [name for name in node.input if name not in self.shapes] if has_formula(node) else []
        words = set().union(*(self.free.get(name, ()) for name in names))
        return ", ".join(sorted(words)) or f"{node.domain or 'onnx'}::{node.op_type}"

    def root(self, name: str) -> tuple[str, ZeroPoint | None]:
        """Follow a tensor back to where its numbers are made; also say how it was dequantised, if it was."""
        zero_point = None
        while (node := self.made_by.get(name)) is not None:
            if node.op_type == "DequantizeLinear":
                zero_point = (*node.input, "")[2], int(attributes(node).get("axis", 1))
            elif node.op_type == "QuantizeLinear":
                zero_point = None  # the stored numbers are not quantised
            elif node.op_type not in SAME_NUMBERS | {"Cast"}:
                break
            name = node.input[0]
        return name, zero_point

    def bits(self, node: onnx.NodeProto, place: int) -> int:
        """Return the bits of an operand's elements, seen through DequantizeLinear."""
        if node.op_type == "MatMulNBits" and place == 1:
            return int(attributes(node).get("bits", 4))
        name = node.input[place]
        while (maker := self.made_by.get(name)) is not None and name not in self.stored:
            if maker.op_type == "DequantizeLinear":
                name = maker.input[0]
                break
            if maker.op_type not in SAME_NUMBERS:
                break
            name = maker.input[0]
        kind = self.types.get(name)
        maker = self.made_by.get(name)
        if kind is None and maker is not None and maker.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            kind = self.types.get(maker.input[2], TensorProto.UINT8) if len(maker.input) > 2 else TensorProto.UINT8
        kind = kind or TensorProto.FLOAT
        return BITS.get(kind) or helper.tensor_dtype_to_np_dtype(kind).itemsize * 8

    def share(self, node: onnx.NodeProto, place: int) -> float:
        """Return the share of non-zeros of an operand that is a stored weight; 1 for activations."""
        name, _ = self.root(node.input[place])
        size, nonzero = self.learned.get(name, (0, 0))
        return nonzero / size if size else 1.0

    def _learn_in_bodies(self, graph: onnx.GraphProto) -> None:
        """Note the stored weights that only bodies of branches and loops read; what these compute is told as uncounted."""
        _, *bodies = graphs_of(graph)
        for body in bodies:
            self.stored.update((one.name, one) for one in body.initializer if one.name not in self.stored)
            for name in (name for node in body.node for name in node.input if name in self.stored):
                tensor = self.stored[name]
                if name not in self.learned and tensor.data_type in FLOATS and math.prod(tensor.dims) > 1:
                    self.learned[name] = self._size(name, ("", 0))

    def _learn(self, node: onnx.NodeProto, place: int) -> None:
        """Note the stored weights that an input consists of."""
        waiting, seen = [(node, place)], set()
        while waiting:
            reader, slot = waiting.pop()
            name, zero_point = self.root(reader.input[slot])
            maker = self.made_by.get(name)
            if name in self.stored:
                self._note(name, zero_point, reader, slot)
            elif maker is not None and maker.op_type in PARTS and name not in seen:
                seen.add(name)
                waiting += [(maker, at) for at in range(len(maker.input) if maker.op_type == "Concat" else 1)]

    def _note(self, name: str, zero_point: ZeroPoint | None, node: onnx.NodeProto, place: int) -> None:
        """Note a stored weight as (numbers, those that do not stand for zero), if it is one."""
        if name in self.learned:
            return
        if node.op_type == "MatMulNBits" and place == 1:
            size = math.prod(int(attributes(node)[key]) for key in "KN")
            self.learned[name] = size, size  # packed; its zeros are not looked for
        elif node.op_type in ZERO_POINT:
            slot, axis = ZERO_POINT.get(node.op_type, (99, 0))
            if node.op_type == "QGemm" and attributes(node).get("transB"):
                axis = 0
            is_weight = place == OPERANDS[node.op_type][1]
            zero = node.input[slot] if is_weight and slot < len(node.input) else ""
            self.learned[name] = self._size(name, (zero, axis))
        elif self._is_constant(name, node):
            return
        elif zero_point or self.stored[name].data_type in FLOATS:
            self.learned[name] = self._size(name, zero_point or ("", 0))

    def _is_constant(self, name: str, node: onnx.NodeProto) -> bool:
        """Say whether an operand is no weight: one number beside activations, or scales of what is quantised at each call."""
        if node.op_type in ELEMENTWISE - {"PRelu"} and math.prod(self.stored[name].dims) < 2:
            return True
        makers = (self.made_by.get(one) for one in node.input if node.op_type == "Mul")
        return any(one is not None and one.op_type == "DynamicQuantizeLinear" for one in makers)

    def _size(self, name: str, zero_point: ZeroPoint) -> tuple[int, int]:
        values = numpy_helper.to_array(self.stored[name]).astype(np.float32)
        zero, axis = np.zeros((), np.float32), zero_point[1]
        if zero_point[0] in self.stored:
            zero = numpy_helper.to_array(self.stored[zero_point[0]]).astype(np.float32)
        if zero.ndim == 1 and values.ndim:
            zero = zero.reshape([-1 if at == axis % values.ndim else 1 for at in range(values.ndim)])
        elif zero.ndim and zero.shape != values.shape:  # one a block
            length = values.shape[axis]
            zero = np.repeat(zero, -(-length // zero.shape[axis]), axis).take(np.arange(length), axis)
        return values.size, int(np.count_nonzero(values != zero))


def _makers(nodes: list[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor; raise RequestError for circles, which the walks above would not leave."""
    makers = {name: node for node in nodes for name in node.output if name}
    made: set[str] = set()
    for node in nodes:
        early = [name for name in node.input if name in makers and name not in made]
        twice = [name for name in node.output if name in made]
        if early or twice:
            what = f"needs the tensor {early[0]!r} before it is made" if early else f"makes {twice[0]!r} a second time"
            raise RequestError(f"not a valid ONNX graph: {node.op_type} {what}")
        made.update(filter(None, node.output))
    return makers
