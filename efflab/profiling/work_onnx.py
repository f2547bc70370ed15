"""The MAC ledger of an ONNX graph, from its operators, inferred shapes and stored weights."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from efflab.errors import RequestError
from efflab.onnx_graph import attributes
from efflab.profiling.onnx_shapes import Shape, set_batch, shapes_and_types
from efflab.profiling.work import Ledger
from efflab.study import Work

ZeroPoint = tuple[str, int]  # name of its tensor ("" = none), axis along which it varies

COMPUTE = re.compile(r"Conv|MatMul|Gemm|Attention|LSTM|GRU|RNN|DFT|STFT|FFT|Einsum|MoE|^Det$")
KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
SAME_NUMBERS = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "PRelu"}
# operator -> places of one operand and the other
OPERANDS = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose", "ConvInteger", "Gemm", "FusedGemm", "MatMul"), (0, 1)),
    **dict.fromkeys(("FusedMatMul", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), (0, 1)),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "MatMulNBits", "Attention", "Einsum"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), (0, 3)),
}
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


def count(path: Path) -> Work:
    """Count an ONNX file for one example: a symbolic first axis of the inputs is taken as 1, a fixed one divided out.

    `params` are the stored numbers that enter a product, a normalisation, an embedding or an elementwise operator as
    weight or bias (through DequantizeLinear or not); scales, zero points, shapes and running statistics are none.
    An operator whose shapes cannot be known is listed as uncounted. Raises RequestError if the file is no ONNX model.
    """
    model, artefact_bytes = _load(path)
    graph = _Graph(model)
    ledger = Ledger()
    for node in graph.nodes:
        products = _products(graph, node)
        if products is None:
            ledger.uncounted[f"{node.domain or 'onnx'}::{node.op_type}"] += 1
        elif products:
            ledger.counted += 1
            for macs, left, right in products:
                bits = graph.bits(node, left) * graph.bits(node, right)
                ledger.add(macs, graph.share(node, left) * graph.share(node, right), bits)
    return ledger.work(
        params=sum(size for size, _ in graph.learned.values()),
        nonzero_params=sum(nonzero for _, nonzero in graph.learned.values()),
        artefact_bytes=artefact_bytes,
        examples=graph.examples,
    )


def macs_by_node(path: Path) -> dict[str, int]:
    """Return the MACs of each named node that has a formula, for one example."""
    model, _ = _load(path)
    graph = _Graph(model)
    found = {node.name: _products(graph, node) for node in graph.nodes}
    return {
        name: sum(macs for macs, _, _ in products) // graph.examples for name, products in found.items() if products
    }


def _load(path: Path) -> tuple[onnx.ModelProto, int]:
    try:
        model = onnx.load(str(path), load_external_data=False)
        tensors = [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
        files = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
        onnx.load_external_data_for_model(model, str(path.parent))
        size = path.stat().st_size + sum((path.parent / file).stat().st_size for file in files)
    except FileNotFoundError as error:
        raise RequestError(f"{error.filename or path}: there is no such file") from error
    except Exception as error:  # protobuf's and onnx's errors have no common, public base
        raise RequestError(f"{path}: not a readable ONNX model ({type(error).__name__})") from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return model, size


class _Graph:
    """A graph with the shapes and types of its tensors at batch 1, and a way back from operands to stored weights."""

    def __init__(self, model: onnx.ModelProto):
        graph = model.graph
        self.nodes = list(graph.node)
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self.stored.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
        self.made_by = _makers(self.nodes)
        inputs = [value for value in graph.input if value.name not in self.stored]
        self.examples = set_batch(inputs)
        products = (node for node in self.nodes if node.op_type in OPERANDS)
        needed = {name for node in products for name in (*node.input, node.output[0]) if name}
        self.shapes, self.types = shapes_and_types(model, inputs, needed - self.stored.keys())
        for name, tensor in self.stored.items():
            self.shapes[name], self.types[name] = tuple(tensor.dims), tensor.data_type
        self.learned: dict[str, tuple[int, int]] = {}
        for node in self.nodes:
            for place in (*OPERANDS.get(node.op_type, ()), *LEARNED.get(node.op_type, ())):
                if place < len(node.input) and node.input[place]:
                    self._learn(node, place)

    def shape(self, node: onnx.NodeProto, place: int) -> Shape:
        """Return the shape of an input; raise KeyError where it is not known."""
        return self.shapes[node.input[place]]

    def root(self, name: str) -> tuple[str, ZeroPoint | None]:
        """Follow a tensor back to where its numbers are made; also say how it was dequantised, if it was."""
        zero_point = None
        while (node := self.made_by.get(name)) is not None:
            if node.op_type == "DequantizeLinear":
                zero_point = (*node.input, "")[2], int(attributes(node).get("axis", 1))
            elif node.op_type not in SAME_NUMBERS | {"Cast", "QuantizeLinear"}:
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

    def _learn(self, node: onnx.NodeProto, place: int) -> None:
        """Note an input as (numbers, those that do not stand for zero), if it is a stored weight."""
        name, zero_point = self.root(node.input[place])
        if name not in self.stored or name in self.learned:
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
        # one number beside activations is a constant of the formula (a factor, an epsilon), not a weight
        elif node.op_type in ELEMENTWISE and math.prod(self.stored[name].dims) < 2:
            return
        elif zero_point or self.stored[name].data_type in FLOATS:
            self.learned[name] = self._size(name, zero_point or ("", 0))

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


Products = list[tuple[int, int, int]]  # (MACs, place of one operand, place of the other)


def _products(graph: _Graph, node: onnx.NodeProto) -> Products | None:
    """Return the products that a node computes; none for other work; None where it cannot be told."""
    bodies = [item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH]
    if any(COMPUTE.search(inner.op_type) for body in bodies for inner in body.node):
        return None
    if node.op_type not in OPERANDS:
        return None if COMPUTE.search(node.op_type) or node.domain not in KNOWN_DOMAINS else []
    try:
        return _formula(graph, node)
    except (KeyError, IndexError, ValueError):
        return None


def _formula(graph: _Graph, node: onnx.NodeProto) -> Products | None:
    """Return the products of an operator of OPERANDS; raise KeyError where a shape is not known."""
    left, right = OPERANDS[node.op_type]
    kind, settings = node.op_type, attributes(node)
    first = graph.shape(node, left)
    if kind == "ConvTranspose":
        return [(math.prod(first) * math.prod(graph.shape(node, right)[1:]), left, right)]
    if "Conv" in kind:
        return [(math.prod(graph.shapes[node.output[0]]) * math.prod(graph.shape(node, right)[1:]), left, right)]
    if kind in ("LSTM", "GRU", "RNN"):
        steps = first[0] * first[1]
        return [(steps * math.prod(graph.shape(node, place)), 0, place) for place in (1, 2)]
    if kind == "Einsum":
        return _einsum(graph, node, settings["equation"].decode())
    if kind == "Attention":
        return None if node.domain else _attention(graph, node, settings)
    inner = first[-2] if settings.get("transA") else first[-1]
    second = graph.shape(node, right)
    if kind in ("Gemm", "FusedGemm", "QGemm"):
        rows, columns = math.prod(first) // inner, math.prod(second) // inner
        return [(rows * inner * columns, left, right)]
    if kind == "MatMulNBits":
        return [(math.prod(first) * int(settings["N"]), left, right)]
    return [(math.prod(_matmul_shape(first, second, settings)) * inner, left, right)]


def _matmul_shape(first: Shape, second: Shape, settings: dict[str, Any]) -> Shape:
    if settings.get("transA"):
        first = (*first[:-2], first[-1], first[-2])
    if settings.get("transB"):
        second = (*second[:-2], second[-1], second[-2])
    rows, columns = first[-2:-1], second[-1:] if len(second) > 1 else ()
    return (*np.broadcast_shapes(first[:-2], second[:-2]), *rows, *columns)


def _einsum(graph: _Graph, node: onnx.NodeProto, equation: str) -> Products | None:
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        return None
    lengths: dict[str, int] = {}
    for place, term in enumerate(terms):
        lengths.update(zip(term, graph.shape(node, place), strict=True))
    return [(math.prod(lengths.values()), 0, 1)]


def _attention(graph: _Graph, node: onnx.NodeProto, settings: dict[str, Any]) -> Products | None:
    if len(node.input) > 4 and any(node.input[4:6]):  # past keys: the length is not in the shapes
        return None
    query, key, value = (graph.shape(node, place) for place in range(3))
    if len(query) == 3:  # heads lie side by side in the last axis
        heads, kv_heads = int(settings["q_num_heads"]), int(settings["kv_num_heads"])
        scores, size, value_size = query[0] * heads * query[1] * key[1], query[2] // heads, value[2] // kv_heads
    else:
        scores, size, value_size = math.prod(query[:-1]) * key[-2], query[-1], value[-1]
    return [(scores * size, 0, 1), (scores * value_size, 0, 2)]
