"""Which layers of a float graph can be quantised, and on what scales their weights go into 8 and 4 bits."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efflab.model_surgery.graphs.onnx_graph import attributes, weight_axes

ENDLESS = 1e6  # a magnitude that stands for infinity

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
MOST_INT32 = 2**31 - 1
Overrides = dict[str, list[dict[str, Any]]]  # onnxruntime's TensorQuantOverrides: weight -> one entry, or one a channel


@dataclass(frozen=True)
class WeightLayer:
    """A node with a stored weight: what can be quantised, or kept in float, by itself."""

    node: str
    operator: str
    weight: str
    bias: str  # "" if it has none


def layers(path: Path) -> list[WeightLayer]:
    """Return the Conv, ConvTranspose, Gemm and MatMul nodes of a graph that have a stored weight, in the graph's order."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [
        WeightLayer(node.name, node.op_type, node.input[1], node.input[2] if len(node.input) > 2 else "")
        for node in graph.node
        if node.op_type in WEIGHTED and node.input[1] in stored
    ]


def clip_bounds(node: Any, stored: dict[str, Any]) -> tuple[float, float] | None:
    """Return the bounds of a Clip, infinite where it has none; None where they are computed."""
    from onnx import numpy_helper

    found = attributes(node)  # up to opset 10
    bounds = [float(found.get("min", -np.inf)), float(found.get("max", np.inf))]
    for place, name in enumerate(node.input[1:3]):
        if name and name not in stored:
            return None
        if name:
            bounds[place] = float(numpy_helper.to_array(stored[name]).reshape(-1)[0])
    return bounds[0], bounds[1]


def clips_that_matter(graph: Any) -> list[str]:
    """Return the Clip nodes that a quantised range cannot stand for: it always holds zero, and knows stored bounds only.

    ONNX Runtime drops Relu and Clip before a tensor that it quantises, whatever their bounds are.
    """
    stored = {one.name: one for one in graph.initializer}
    clips = {node.name: clip_bounds(node, stored) for node in graph.node if node.op_type == "Clip"}
    return [name for name, bounds in clips.items() if bounds is None or bounds[0] > 0 or bounds[1] < 0]


def unbounded_nodes(graph: Any, ranges: Any) -> list[str]:
    """Return the nodes that take or give tensors without a useful range.

    A class that is switched off is -inf by design, or a number so large that 8 bits hold nothing beside it.
    """
    endless = {name for name in ranges if not all((np.abs(end) < ENDLESS).all() for end in ranges[name].range_value)}
    return [node.name for node in graph.node if endless & {*node.input, *node.output}]


def ranges_behind_clips(graph: Any, ranges: Any) -> Any:
    """Return the ranges (onnxruntime's TensorsData) in which what only such a Clip reads has the range that it lets through.

    The steps of 8 bits are then spent where they count.
    """
    kept = set(clips_that_matter(graph))
    readers = Counter(name for node in graph.node for name in node.input)
    results = {value.name for value in graph.output}
    narrowed = copy.copy(ranges)
    narrowed.data = dict(ranges.data)
    for node in graph.node:
        name = node.input[0] if node.input else ""
        if (
            node.name in kept
            and readers[name] == 1
            and name not in results
            and {name, node.output[0]} <= ranges.data.keys()
        ):
            narrowed.data[name] = ranges.data[node.output[0]]
    return narrowed


def eight_bit_weights(graph: Any) -> Overrides:
    """Return overrides for weights whose axis of outputs onnxruntime takes wrongly.

    MatMul with more than two axes has its outputs last; a grouped ConvTranspose has more outputs than its weight's axis.
    """
    from onnxruntime.quantization import QuantType

    overrides: Overrides = {}
    sizes = {one.name: list(one.dims) for one in graph.initializer}
    common = {"quant_type": QuantType.QInt8, "symmetric": True}
    for node in graph.node:
        dims = sizes.get(node.input[1], []) if len(node.input) > 1 else []
        if node.op_type == "MatMul" and len(dims) > 2:
            first = {"axis": len(dims) - 1, **common}
            overrides[node.input[1]] = [first, *(dict(common) for _ in range(dims[-1] - 1))]
        elif _is_grouped_transpose(node) and dims:
            overrides[node.input[1]] = [dict(common)]
    return overrides


def _is_grouped_transpose(node: Any) -> bool:
    return bool(node.op_type == "ConvTranspose" and attributes(node).get("group", 1) > 1)


def input_scales(graph: Any, ranges: Any, symmetric: bool) -> dict[str, float]:
    """Return the 8-bit scale of each node's first input, as far as its range (onnxruntime's TensorsData) is known."""
    found = {}
    for node in graph.node:
        name = node.input[0] if node.input else ""
        if name in ranges:
            low, high = (float(np.asarray(end).reshape(-1)[0]) for end in ranges[name].range_value)
            low, high = min(low, 0.0), max(high, 0.0)
            found[node.name] = 2 * max(-low, high) / 254 if symmetric else (high - low) / 255
    return found


def four_bit_weights(
    graph: Any, chosen: Collection[WeightLayer], per_channel: bool, input_scales: dict[str, float]
) -> Overrides:
    """Return overrides for weights of 4 bits, symmetric from -7 to 7; onnxruntime's own scales would clip at +7.

    A bias is stored in steps of input scale x weight scale, as a 32-bit integer: the scale of a channel of tiny weights is
    raised until its bias fits, as onnxruntime itself does for 8 bits.
    """
    from onnx import numpy_helper
    from onnxruntime.quantization import QuantType

    nodes = {node.name: node for node in graph.node}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    overrides: Overrides = {}
    for layer in chosen:
        node, value = nodes[layer.node], numpy_helper.to_array(stored[layer.weight]).astype(np.float32)
        axis, _ = weight_axes(node, value.ndim)
        apart = per_channel and not _is_grouped_transpose(node)
        flat = np.moveaxis(value, axis, 0).reshape(value.shape[axis] if apart else 1, -1)
        largest = np.abs(flat).max(axis=1)
        least = _least_scales(layer, stored, input_scales, len(largest))
        scales = np.maximum(np.where(largest > 0, largest / 7, 1.0), least)
        entries: list[dict[str, Any]] = [
            {"quant_type": QuantType.QInt4, "scale": np.float32(scale), "zero_point": np.int8(0)} for scale in scales
        ]
        overrides[layer.weight] = [{"axis": axis, **entries[0]}, *entries[1:]] if apart else entries
    return overrides


def _least_scales(layer: WeightLayer, stored: dict[str, Any], input_scales: dict[str, float], count: int) -> np.ndarray:
    """Return the least scale of each channel's weights at which its bias fits into 32 bits."""
    from onnx import numpy_helper

    step = input_scales.get(layer.node, 0.0)
    if layer.bias not in stored or step <= 0:
        return np.zeros(count)
    bias = np.abs(numpy_helper.to_array(stored[layer.bias]).astype(np.float64)).reshape(-1)
    most = bias if len(bias) == count else np.full(count, bias.max(initial=0.0))
    return np.asarray(1.001 * most / MOST_INT32 / step)
