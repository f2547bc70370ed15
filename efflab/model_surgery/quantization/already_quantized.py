"""Refuses a graph that is quantised already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


QUANTIZED = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "MatMulNBits",
}


def refuse_quantized(path: Path) -> None:
    """Raise RequestError if an ONNX file is quantised already: quantising again would only add error."""
    import onnx

    operators = {node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node}
    found = sorted(operators & QUANTIZED)
    if found:
        raise RequestError(f"the model is quantised already (it holds {', '.join(found)}); give the float one")
