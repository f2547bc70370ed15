"""Stores weights in 8 or 4 bits and computes in float (weight-only quantisation: Dettmers et al. 2022, arXiv 2208.07339)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.errors import RequestError
from efflab.technique import Context, Form, Result, Technique

if TYPE_CHECKING:
    import numpy as np

GRAPH = "model.onnx"
BLOCKED_OPSET = 21  # DequantizeLinear has blocks and 4-bit integers from here on


class QuantizeWeights(Technique):
    """Store the weights of products in 8 or 4 bits, a scale for each group of inputs; activations stay float (LLM.int8).

    It shrinks the file and, where a runtime unpacks as it multiplies, the memory that is read: large linear layers at
    small batch. Where it unpacks on loading, nothing is faster.
    """

    takes: ClassVar[Form] = "onnx"
    gives: ClassVar[Form] = "onnx"
    claims: ClassVar[tuple[str, ...]] = ("artefact_bytes",)
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static", "quantize_dynamic", "quantize_weights", "quantize_mixed")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "channels are ranked in float",
        "finetune": "training needs float weights",
    }
    version: ClassVar[int] = 2  # with `group`, kernels are quantised too
    tiny: ClassVar[dict[str, Any]] = {"bits": 8}

    bits: Literal[8, 4] = 8
    group: Annotated[int, Field(ge=0, le=4096)] = (
        0  # inputs of a matrix that share a scale; kernels, and 0: all of an output
    )
    least: Annotated[int, Field(ge=1)] = 256  # weights of fewer numbers stay float

    def apply(self, model: Any, context: Context) -> Result:
        """Quantise."""
        path = context.folder / GRAPH
        quantize_weights(model, path, self.bits, self.group, self.least)
        return Result(path)


def quantize_weights(onnx_in: Path, onnx_out: Path, bits: Literal[8, 4] = 8, group: int = 0, least: int = 256) -> None:
    """Write a copy of `onnx_in` whose weights of Conv, Gemm and MatMul are integers behind a DequantizeLinear.

    Symmetric, the scale from the largest magnitude. Raises RequestError if nothing is large enough, all is quantised
    already, or `group` divides the inputs of no matrix.
    """
    import onnx
    from onnx import helper, numpy_helper, version_converter

    from efflab.calibration import refuse_quantized

    refuse_quantized(onnx_in)
    model = onnx.load(str(onnx_in))
    version = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if (bits == 4 or group) and version < BLOCKED_OPSET:
        model = version_converter.convert_version(model, BLOCKED_OPSET)
    weights = {one.name: one for one in model.graph.initializer}
    uses = [
        (node, node.input[1], _axes(node))
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights
    ]
    done: dict[str, str] = {}
    grouped = False
    for node, name, (outputs, inputs) in uses:
        value = numpy_helper.to_array(weights[name])
        blocks = group if group and node.op_type != "Conv" and value.shape[inputs] % group == 0 else 0
        grouped |= bool(blocks)
        if name not in done and (value.size < least or value.dtype.kind != "f"):
            continue
        if name not in done:
            done[name] = f"{name}.dequantised"
            integers, scale = _quantized(value, bits, outputs, inputs, blocks)
            zero = helper.make_tensor(f"{name}.zero", _type(bits), scale.shape, [0] * scale.size)
            packed = helper.make_tensor(f"{name}.integers", _type(bits), value.shape, _raw(integers, bits), raw=True)
            model.graph.initializer.extend([packed, numpy_helper.from_array(scale, f"{name}.scale"), zero])
            settings: dict[str, Any] = {"axis": inputs, "block_size": blocks} if blocks else {"axis": outputs}
            model.graph.node.insert(
                0,
                helper.make_node(
                    "DequantizeLinear", [packed.name, f"{name}.scale", zero.name], [done[name]], **settings
                ),
            )
        node.input[1] = done[name]
    if not done or (group and not grouped):
        why = f"no matrix has a multiple of {group} inputs" if group else f"no weight has {least} numbers"
        raise RequestError(f"quantize_weights: {why}")
    for name in done:
        if not any(name in node.input for node in model.graph.node):
            model.graph.initializer.remove(weights[name])
    onnx.checker.check_model(model)
    onnx.save(model, str(onnx_out))


def _axes(node: Any) -> tuple[int, int]:
    """Return the axes of a node's weight that count its outputs and its inputs."""
    from efflab.onnx_graph import output_axis

    return output_axis(node), 1 - output_axis(node)


def _quantized(value: np.ndarray, bits: int, outputs: int, inputs: int, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return integers of the weight's shape, and their scales: one for each output, or for each block of its inputs."""
    import numpy as np

    most = 2 ** (bits - 1) - 1
    if blocks:
        apart = np.moveaxis(value, inputs, -1)
        largest = np.abs(apart.reshape(*apart.shape[:-1], -1, blocks)).max(axis=-1)
        scale = np.moveaxis(np.where(largest > 0, largest, 1) / most, -1, inputs).astype(np.float32)
        spread = np.repeat(scale, blocks, axis=inputs)
    else:
        others = tuple(axis for axis in range(value.ndim) if axis != outputs)
        largest = np.abs(value).max(axis=others)
        scale = (np.where(largest > 0, largest, 1) / most).astype(np.float32)
        spread = np.expand_dims(scale, others)
    return np.clip(np.rint(value / spread), -most, most).astype(np.int8), scale


def _type(bits: int) -> int:
    from onnx import TensorProto

    return int(TensorProto.INT8 if bits == 8 else TensorProto.INT4)


def _raw(integers: np.ndarray, bits: int) -> bytes:
    """Return the bytes of the integers; two of 4 bits in a byte, the first in the lower half."""
    import numpy as np

    if bits == 8:
        return integers.tobytes()
    flat = (integers.flatten() & 0x0F).astype(np.uint8)
    flat = np.pad(flat, (0, len(flat) % 2))
    return (flat[0::2] | flat[1::2] << 4).astype(np.uint8).tobytes()
