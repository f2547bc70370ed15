"""Evens out the ranges of weights between neighbouring layers (Nagel et al. 2019, arXiv 1906.04721, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.artefacts.graph_files import save_graph
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError
from efflab.model_surgery.graphs.onnx_graph import attributes, weight_axes
from efflab.model_surgery.quantization.float_graph import load_float_graph
from efflab.model_surgery.quantization.int8_weights import clip_bounds

GRAPH = "model.onnx"
ROUNDS = 40  # over all pairs; a chain of layers settles in fewer
SETTLED = 1e-4  # of change in the scales
PASSING = ("Relu", "LeakyRelu", "PRelu", "Identity")  # scale what goes in, and what comes out is scaled alike


class EqualizeLayers(Technique):
    """Scale the channels between two layers so that no channel's weights are much smaller than another's (Nagel 2019).

    It prepares `quantize_static` with one scale a tensor, above all for depthwise nets. Outputs stay what they were where
    activations are ReLU.
    """

    takes: ClassVar[Form] = "onnx"
    gives: ClassVar[Form] = "onnx"
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static", "quantize_dynamic", "quantize_weights", "quantize_mixed")
    tiny: ClassVar[dict[str, Any]] = {}

    replace_clips: Annotated[
        bool,
        Field(
            description="Replace ReLU6 between two layers by ReLU, as the paper does, so that they can be equalised; "
            "outputs can change."
        ),
    ] = False

    def apply(self, model: Any, context: Context) -> Result:
        """Equalise; raise RequestError if no two layers can be."""
        path = context.folder / GRAPH
        equalize_layers(model, path, self.replace_clips)
        return Result(path)


@dataclass
class _Pair:
    """Two layers with only a scaling-proof activation between them."""

    first: Any
    second: Any
    clips: list[Any]


def equalize_layers(onnx_in: Path, onnx_out: Path, replace_clips: bool = False) -> int:
    """Write the equalised copy of `onnx_in` to `onnx_out`, and return how many pairs of layers were scaled.

    Raises RequestError if there is no pair, or the graph is quantised already.
    """
    import onnx
    from onnx import numpy_helper

    from efflab.model_surgery.quantization.already_quantized import refuse_quantized

    refuse_quantized(onnx_in)
    model = load_float_graph(onnx_in, opset=1)
    stored = {one.name: one for one in model.graph.initializer}
    pairs = _pairs(model.graph, stored, replace_clips)
    if not pairs:
        why = "" if replace_clips else "; replace_clips would treat ReLU6 as ReLU"
        raise RequestError(f"equalize_layers: no two layers follow each other with only a ReLU between{why}")
    values = {name: numpy_helper.to_array(one).astype(np.float32) for name, one in stored.items()}
    for _ in range(ROUNDS):
        if max(_equalize(pair, values) for pair in pairs) < SETTLED:
            break
    touched = {name for pair in pairs for node in (pair.first, pair.second) for name in node.input[1:] if name}
    for name in touched:
        dtype = numpy_helper.to_array(stored[name]).dtype
        stored[name].CopyFrom(numpy_helper.from_array(values[name].astype(dtype), name))
    for clip in (clip for pair in pairs for clip in pair.clips):
        clip.op_type = "Relu"
        del clip.input[1:]
    onnx.checker.check_model(model)
    save_graph(model, onnx_out)
    return len(pairs)


def _pairs(graph: Any, stored: dict[str, Any], replace_clips: bool) -> list[_Pair]:
    """Return the pairs of layers whose weights are theirs alone, where the tensor between has one taker."""
    from collections import Counter

    takers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    results = {one.name for one in graph.output}
    uses = Counter(name for node in graph.node for name in node.input)

    def own(node: Any) -> bool:
        return node.op_type in ("Conv", "Gemm") and all(
            name in stored and uses[name] == 1 for name in node.input[1:] if name
        )

    def only_taker(name: str) -> Any | None:
        found = takers.get(name, [])
        return found[0] if len(found) == 1 and name not in results else None

    pairs = []
    for node in graph.node:
        if not own(node):
            continue
        second, clips = only_taker(node.output[0]), []
        while second is not None and (second.op_type in PASSING or (replace_clips and _is_relu6(second, stored))):
            clips += [second] if second.op_type == "Clip" else []
            second = only_taker(second.output[0])
        if second is not None and own(second) and _divisible(node, second, stored):
            pairs.append(_Pair(node, second, clips))
    return pairs


def _is_relu6(node: Any, stored: dict[str, Any]) -> bool:
    return bool(node.op_type == "Clip" and clip_bounds(node, stored) == (0.0, 6.0))


def _divisible(first: Any, second: Any, stored: dict[str, Any]) -> bool:
    """Say whether the channels between two layers can be scaled: plain or depthwise, both with plain factors."""
    plain = all(attributes(node).get(key, default) == default for node in (first, second) if node.op_type == "Gemm"
                for key, default in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)))  # fmt: skip
    channels, inputs = stored[second.input[1]].dims[:2]
    groups = attributes(second).get("group", 1)
    # one input a group: only then each channel of the weight belongs to one channel between the layers
    return plain and (groups == 1 or (groups == channels and inputs == 1 and second.op_type == "Conv"))


def _equalize(pair: _Pair, values: dict[str, np.ndarray]) -> float:
    """Scale one pair in place; return by how much the farthest scale was from 1 (section 4.1, equation 11)."""
    first, second = values[pair.first.input[1]], values[pair.second.input[1]]
    out, _ = weight_axes(pair.first, first.ndim)
    depthwise = pair.second.op_type == "Conv" and attributes(pair.second).get("group", 1) > 1
    into = 0 if depthwise else weight_axes(pair.second, second.ndim)[1]
    ours = np.abs(np.moveaxis(first, out, 0).reshape(first.shape[out], -1)).max(axis=1)
    theirs = np.abs(np.moveaxis(second, into, 0).reshape(second.shape[into], -1)).max(axis=1)
    usable = (ours > 0) & (theirs > 0)
    scale = np.where(usable, np.sqrt(np.where(usable, ours, 1) / np.where(usable, theirs, 1)), 1.0).astype(np.float32)
    values[pair.first.input[1]] = first / _along(scale, out, first.ndim)
    if len(pair.first.input) > 2 and pair.first.input[2]:
        values[pair.first.input[2]] = values[pair.first.input[2]] / scale
    values[pair.second.input[1]] = second * _along(scale, into, second.ndim)
    return float(np.abs(scale - 1).max())


def _along(scale: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    return scale.reshape([-1 if place == axis else 1 for place in range(ndim)])
