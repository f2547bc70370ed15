"""Stores weights in 8 or 4 bits and computes in float (weight-only quantisation: Dettmers et al. 2022, arXiv 2208.07339)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

GRAPH = "model.onnx"
PRODUCTS = ("Conv", "Gemm", "MatMul")
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
    version: ClassVar[int] = 3  # weights of three axes have their scales along the outputs
    least_sqnr_db: ClassVar[float | None] = 0.0  # below it there is more error than signal
    tiny: ClassVar[dict[str, Any]] = {"bits": 8}

    bits: Annotated[Literal[8, 4], Field(description="Bits in which each weight is stored.")] = 8
    group: Annotated[
        int,
        Field(
            ge=0,
            le=4096,
            description="Number of inputs of a matrix that share a scale; 0 gives each output one scale, as "
            "convolutions always have.",
        ),
    ] = 0
    least: Annotated[int, Field(ge=1, description="Weight tensors with fewer numbers than this stay in float.")] = 256

    def apply(self, model: Any, context: Context) -> Result:
        """Quantise."""
        from efflab.model_surgery.quantization.float_weights import float_weights_note

        path = context.folder / GRAPH
        notes = quantize_weights(model, path, self.bits, self.group, self.least)
        return Result(path, notes=(*notes, *float_weights_note(path)))


def quantize_weights(
    onnx_in: Path, onnx_out: Path, bits: Literal[8, 4] = 8, group: int = 0, least: int = 256
) -> tuple[str, ...]:
    """Write a copy of `onnx_in` whose weights of Conv, Gemm and MatMul are integers behind a DequantizeLinear.

    Symmetric, the scale from the largest magnitude. Returns a note of matrices whose inputs `group` does not divide: they
    have one scale for all inputs of an output. Raises RequestError if nothing is large enough, all is quantised already,
    or `group` divides the inputs of no matrix.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    from efflab.artefacts.graph_files import save_graph
    from efflab.model_surgery.graphs.onnx_graph import weight_axes
    from efflab.model_surgery.quantization.already_quantized import refuse_quantized
    from efflab.model_surgery.quantization.float_graph import PER_CHANNEL_OPSET, load_float_graph, read_in_bodies

    refuse_quantized(onnx_in)
    model = load_float_graph(onnx_in, BLOCKED_OPSET if bits == 4 or group else PER_CHANNEL_OPSET)
    graph = model.graph
    weights = {one.name: one for one in graph.initializer}
    done: dict[str, str] = {}
    whole: list[str] = []  # matrices that `group` does not divide
    grouped = 0
    for node in [one for one in graph.node if one.op_type in PRODUCTS and one.input[1] in weights]:
        name = node.input[1]
        value = numpy_helper.to_array(weights[name])
        if name in done or value.size < least or value.dtype != np.float32 or value.ndim < 2:
            continue
        outputs, inputs = weight_axes(node, value.ndim)
        matrix = node.op_type != "Conv"
        blocks = group if group and matrix and value.shape[inputs] % group == 0 else 0
        grouped += bool(blocks)
        if group and matrix and not blocks:
            whole.append(f"{name} ({value.shape[inputs]} inputs)")
        done[name] = _store(graph, name, value, bits, (outputs, inputs), blocks)
    if not done or (group and not grouped):
        why = f"no matrix has a multiple of {group} inputs" if group else f"no weight has {least} numbers"
        raise RequestError(f"quantize_weights: {why}")
    results = {value.name for value in graph.output}
    for node in graph.node:  # other readers of a weight, such as a tied embedding, take the same numbers
        if node.op_type != "DequantizeLinear":
            node.input[:] = [done.get(name, name) for name in node.input]
    for name in done.keys() - results - read_in_bodies(graph):
        graph.initializer.remove(weights[name])
    onnx.checker.check_model(model)
    save_graph(model, onnx_out)
    shown = ", ".join(whole[:3]) + (" and others" if len(whole) > 3 else "")
    return (f"groups of {group} do not divide {shown}, whose outputs have one scale each",) if whole else ()


def _store(graph: Any, name: str, value: np.ndarray, bits: int, axes: tuple[int, int], blocks: int) -> str:
    """Add a weight's integers, scales and DequantizeLinear to a graph; return the name of what that gives."""
    from onnx import helper, numpy_helper

    outputs, inputs = axes
    integers, scale = _quantized(value, bits, outputs, inputs, blocks)
    zero = helper.make_tensor(f"{name}.zero", _type(bits), scale.shape, [0] * scale.size)
    packed = helper.make_tensor(f"{name}.integers", _type(bits), value.shape, _raw(integers, bits), raw=True)
    graph.initializer.extend([packed, numpy_helper.from_array(scale, f"{name}.scale"), zero])
    settings: dict[str, Any] = {"axis": inputs, "block_size": blocks} if blocks else {"axis": outputs}
    made, given = f"{name}.dequantised", [packed.name, f"{name}.scale", zero.name]
    graph.node.insert(0, helper.make_node("DequantizeLinear", given, [made], f"{name}.dequantise", **settings))
    return made


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
