"""Quantises weights to 8 bits and activations on the fly (Krishnamoorthi 2018, arXiv 1806.08342)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

GRAPH = "model.onnx"
INTEGER = {"ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM", "QAttention", "QEmbedLayerNormalization"}


class QuantizeDynamic(Technique):
    """Quantise weights to int8 and choose activation ranges at every call, so no data is needed (Krishnamoorthi 2018).

    It helps linear layers and recurrent networks at small batch; for convolutions it is usually slower than float32,
    because ranges are computed anew at each call.
    """

    version: ClassVar[int] = 2  # weights of three axes stay in float where each output has a scale
    takes: ClassVar[Form] = "onnx"
    least_sqnr_db: ClassVar[float | None] = 0.0  # below it there is more error than signal
    gives: ClassVar[Form] = "onnx"
    claims: ClassVar[tuple[str, ...]] = ("bit_operations", "artefact_bytes")
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static", "quantize_dynamic", "quantize_weights", "quantize_mixed")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "channels are ranked in float",
        "finetune": "training needs float weights",
    }
    tiny: ClassVar[dict[str, Any]] = {}

    per_channel: Annotated[
        bool,
        Field(
            description="Give each output channel of a linear layer's weight its own scale; convolutions always have "
            "one scale for each weight."
        ),
    ] = True

    def apply(self, model: Any, context: Context) -> Result:
        """Quantise."""
        from efflab.model_surgery.quantization.float_weights import float_weights_note

        path = context.folder / GRAPH
        return Result(path, notes=quantize_dynamic(model, path, self.per_channel) or float_weights_note(path))


def quantize_dynamic(onnx_in: Path, onnx_out: Path, per_channel: bool = True) -> tuple[str, ...]:
    """Write a dynamically quantised copy of `onnx_in` to `onnx_out` (which may be the same file).

    Returns a note of what stays in float. Raises RequestError if nothing could be quantised or all is already.
    """
    import onnx
    from onnxruntime import quantization

    from efflab.foundation.quiet import quiet
    from efflab.model_surgery.quantization.already_quantized import refuse_quantized
    from efflab.model_surgery.quantization.float_graph import prepare

    refuse_quantized(onnx_in)
    part, prepared = onnx_out.with_suffix(".part"), onnx_out.with_suffix(".prepared")
    try:
        prepare(onnx_in, prepared)
        graph = onnx.load(str(prepared)).graph
        convolutional = any(node.op_type == "Conv" for node in graph.node)
        # ONNX Runtime's kernel takes a scale for each output of a matrix, not of several side by side
        stacked = _stacked(graph) if per_channel else []
        with quiet():
            quantization.quantize_dynamic(
                str(prepared),
                str(part),
                per_channel=per_channel,
                # ONNX Runtime's processor kernel of ConvInteger takes unsigned weights only
                weight_type=quantization.QuantType.QUInt8 if convolutional else quantization.QuantType.QInt8,
                nodes_to_exclude=stacked,
            )
        what = f"weights of three or more axes ({', '.join(stacked[:3])})"
        if not any(node.op_type in INTEGER for node in onnx.load(str(part)).graph.node):
            why = f" but {what}; per_channel: false takes them" if stacked else ""
            raise RequestError(f"quantize_dynamic: the graph has nothing that can be quantised{why}")
        part.replace(onnx_out)
    finally:
        prepared.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return (f"{what} stay in float; per_channel: false quantises them, too",) if stacked else ()


def _stacked(graph: Any) -> list[str]:
    """Return the MatMul nodes whose stored weight has more than two axes."""
    axes = {one.name: len(one.dims) for one in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and any(axes.get(name, 0) > 2 for name in node.input)
    ]
