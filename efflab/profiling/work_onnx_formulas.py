"""The products that ONNX operators compute, from the shapes of their operands."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from efflab.model_surgery.graphs.onnx_graph import attributes
from efflab.model_surgery.graphs.onnx_shapes import Shape

COMPUTE = re.compile(
    r"Conv|MatMul|Gemm|Attention|LSTM|GRU|RNN|DFT|STFT|[Ff][Ff][Tt]|Einsum|MoE|^Det$|Inverse|^CDist$|AffineGrid"
    r"|^SVM|^Linear(?:Classifier|Regressor)$|GatedRelativePositionBias|DeltaNet|Mamba|LowRank|Proj$|Search$|^Sampling$"
    r"|^EPContext$|^Snpe$"
)
ONNX = {"", "ai.onnx"}
KNOWN_DOMAINS = ONNX | {"ai.onnx.ml", "com.microsoft"}
# operator -> places of one operand and the other
OPERANDS = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose", "ConvInteger", "Gemm", "FusedGemm", "MatMul"), (0, 1)),
    **dict.fromkeys(("FusedMatMul", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), (0, 1)),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "MatMulNBits", "Attention", "Einsum"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), (0, 3)),
}
Shapes = Mapping[str, Shape]  # by tensor name; those that are not known are left out
Products = list[tuple[int, int, int]]  # (MACs, place of one operand, place of the other)


def products(shapes: Shapes, node: onnx.NodeProto) -> Products | None:
    """Return the products that a node computes; none for other work; None where it cannot be told."""
    if not has_formula(node):
        return None if computes(node) else []
    try:
        return _formula(shapes, node)
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        return None


def has_formula(node: onnx.NodeProto) -> bool:
    """Say whether the MACs of a node follow from shapes."""
    return node.op_type in OPERANDS and node.domain in KNOWN_DOMAINS


def computes(node: onnx.NodeProto) -> bool:
    """Say whether a node, or one in its loop or branch, multiplies matrices; one of an unknown domain is taken to."""
    if COMPUTE.search(node.op_type) or node.domain not in KNOWN_DOMAINS:
        return True
    bodies = (body for item in node.attribute for body in (item.g, *item.graphs))
    return any(computes(inner) for body in bodies for inner in body.node)


def _shape(shapes: Shapes, node: onnx.NodeProto, place: int) -> Shape:
    return shapes[node.input[place]]


def _formula(shapes: Shapes, node: onnx.NodeProto) -> Products | None:
    """Return the products of an operator of OPERANDS; raise KeyError where a shape is not known."""
    left, right = OPERANDS[node.op_type]
    kind, settings = node.op_type, attributes(node)
    first = _shape(shapes, node, left)
    if kind == "ConvTranspose":
        return [(math.prod(first) * math.prod(_shape(shapes, node, right)[1:]), left, right)]
    if "Conv" in kind:
        return [(math.prod(shapes[node.output[0]]) * math.prod(_shape(shapes, node, right)[1:]), left, right)]
    if kind in ("LSTM", "GRU", "RNN"):
        steps = first[0] * first[1]
        return [(steps * math.prod(_shape(shapes, node, place)), 0, place) for place in (1, 2)]
    if kind == "Einsum":
        return _einsum(shapes, node, settings["equation"].decode())
    if kind == "Attention":
        return _attention(shapes, node, settings) if node.domain in ONNX else None
    if settings.get("transBatchA") or settings.get("transBatchB"):
        return None
    inner = first[-2] if settings.get("transA") else first[-1]
    second = _shape(shapes, node, right)
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


def _einsum(shapes: Shapes, node: onnx.NodeProto, equation: str) -> Products | None:
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2:
        return None if len(terms) > 2 else []  # of one operand: sums and transpositions
    lengths: dict[str, int] = {}
    others: list[Shape] = []
    for place, term in enumerate(terms):
        shape = _shape(shapes, node, place)
        before, dots, after = term.partition("...")
        if dots:
            end = len(shape) - len(after)
            others.append(shape[len(before) : end])
            shape = (*shape[: len(before)], *shape[end:])
        for letter, length in zip(before + after, shape, strict=True):
            lengths[letter] = max(length, lengths.get(letter, 1))
    return [(math.prod(lengths.values()) * math.prod(np.broadcast_shapes(*others)), 0, 1)]


def _attention(shapes: Shapes, node: onnx.NodeProto, settings: dict[str, Any]) -> Products | None:
    if len(node.input) > 4 and any(node.input[4:6]):  # past keys: the length is not in the shapes
        return None
    query, key, value = (_shape(shapes, node, place) for place in range(3))
    if len(query) == 3:  # heads lie side by side in the last axis
        heads, kv_heads = int(settings["q_num_heads"]), int(settings["kv_num_heads"])
        scores, size, value_size = query[0] * heads * query[1] * key[1], query[2] // heads, value[2] // kv_heads
    else:
        scores, size, value_size = math.prod(query[:-1]) * key[-2], query[-1], value[-1]
    return [(scores * size, 0, 1), (scores * value_size, 0, 2)]
