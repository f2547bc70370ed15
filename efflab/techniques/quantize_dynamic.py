"""Quantises weights to 8 bits and activations on the fly (Krishnamoorthi 2018, arXiv 1806.08342)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from efflab.errors import RequestError
from efflab.technique import Context, Form, Result, Technique

GRAPH = "model.onnx"
INTEGER = {"ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM", "QAttention", "QEmbedLayerNormalization"}


class QuantizeDynamic(Technique):
    """Quantise weights to int8 and choose activation ranges at every call, so no data is needed (Krishnamoorthi 2018).

    It helps linear layers and recurrent networks at small batch; for convolutions it is usually slower than float32,
    because ranges are computed anew at each call.
    """

    takes: ClassVar[Form] = "onnx"
    gives: ClassVar[Form] = "onnx"
    claims: ClassVar[tuple[str, ...]] = ("bit_operations", "artefact_bytes")
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static", "quantize_dynamic", "quantize_weights", "quantize_mixed")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "channels are ranked in float",
        "finetune": "training needs float weights",
    }
    tiny: ClassVar[dict[str, Any]] = {}

    per_channel: bool = True  # a scale for each output channel of a linear layer's weight (convolutions: one)

    def apply(self, model: Any, context: Context) -> Result:
        """Quantise."""
        path = context.folder / GRAPH
        quantize_dynamic(model, path, self.per_channel)
        return Result(path)


def quantize_dynamic(onnx_in: Path, onnx_out: Path, per_channel: bool = True) -> None:
    """Write a dynamically quantised copy of `onnx_in` to `onnx_out` (which may be the same file).

    Raises RequestError if nothing could be quantised or all is already.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from efflab.calibration import refuse_quantized
    from efflab.quiet import quiet

    refuse_quantized(onnx_in)
    part, prepared = onnx_out.with_suffix(".part"), onnx_out.with_suffix(".prepared")
    try:
        with quiet():
            quant_pre_process(str(onnx_in), str(prepared), skip_symbolic_shape=True)
            convolutional = any(node.op_type == "Conv" for node in onnx.load(str(prepared)).graph.node)
            quantization.quantize_dynamic(
                str(prepared),
                str(part),
                per_channel=per_channel,
                # ONNX Runtime's processor kernel of ConvInteger takes unsigned weights only
                weight_type=quantization.QuantType.QUInt8 if convolutional else quantization.QuantType.QInt8,
            )
        if not any(node.op_type in INTEGER for node in onnx.load(str(part)).graph.node):
            raise RequestError("quantize_dynamic: the graph has nothing that can be quantised")
        part.replace(onnx_out)
    finally:
        prepared.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
