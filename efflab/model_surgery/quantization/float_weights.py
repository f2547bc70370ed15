"""Which weights of a quantised graph stayed in float, so that a step can say so."""

from __future__ import annotations

from pathlib import Path

# operators whose weights people expect to be quantised, or that hand one on to such an operator
READERS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Transpose", "LSTM", "GRU", "RNN")
LEAST = 256  # numbers of a weight; smaller ones are not worth a word
SHOWN = 3


def float_weights_note(path: Path) -> tuple[str, ...]:
    """Return a sentence that names the large matrices of a graph that are stored as floats, or nothing if there are none."""
    import math

    import onnx
    from onnx import TensorProto

    graph = onnx.load(str(path), load_external_data=False).graph
    kinds = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    large = {
        one.name for one in graph.initializer
        if one.data_type in kinds and len(one.dims) >= 2 and math.prod(one.dims) >= LEAST
    }  # fmt: skip
    kept = {
        name: node.op_type for node in graph.node if node.op_type in READERS for name in node.input if name in large
    }
    if not kept:
        return ()
    shown = ", ".join(f"{name} of {operator}" for name, operator in list(kept.items())[:SHOWN])
    more = f" and {len(kept) - SHOWN} more" if len(kept) > SHOWN else ""
    return (f"weights that stay in float: {shown}{more}",)
