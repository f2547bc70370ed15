"""Says which kind of numbers a graph computes in: how near two runtimes must come depends on it."""

from __future__ import annotations

from typing import Any

from efflab.validation.backends.own.file import all_nodes
from efflab.validation.backends.own.input_ranges import Facts

# operators that round what they multiply by ranges found at run time; runtimes may do the same of their own accord
# to products with weights that are stored in few bits, as ONNX Runtime does with those behind a DequantizeLinear
DYNAMIC = {
    "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "MatMulNBits",
    "GatherBlockQuantized",
}  # fmt: skip
STORAGE = {
    "Cast",
    "Constant",
    "Identity",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "DequantizeLinear",
    "QuantizeLinear",
}


def numbers_of(model: Any, facts: Facts) -> str:
    """Return the kind of numbers that a model computes in: weights that are only stored in fewer bits do not count."""
    from onnx import TensorProto

    nodes = [*all_nodes(model)]
    kinds = {node.op_type for node in nodes}
    few_bits = {"MatMulInteger", "ConvInteger", "DequantizeLinear"} & kinds
    if kinds & DYNAMIC or (few_bits and "QuantizeLinear" not in kinds and not any("QLinear" in kind for kind in kinds)):
        return "int8 dynamic"
    if any("Quantize" in kind or kind.startswith("QLinear") for kind in kinds):
        return "int8"
    small: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
    stored = {one.name for one in model.graph.initializer} | {*facts.constants}
    found = set()
    for node in nodes:
        if node.op_type not in STORAGE:
            found |= {small[facts.types[name]] for name in node.input if facts.types.get(name) in small}
        elif node.op_type == "Cast" and node.input[0] not in stored:
            found |= {small[one.i] for one in node.attribute if one.name == "to" and one.i in small}
    found |= {small[one.type.tensor_type.elem_type] for one in (*model.graph.input, *model.graph.output)
              if one.type.tensor_type.elem_type in small}  # fmt: skip
    return "bfloat16" if "bfloat16" in found else "float16" if found else "float32"
