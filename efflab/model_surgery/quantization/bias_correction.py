"""Takes the mean error of rounded weights out of the biases of an int8 graph (Nagel et al. 2019, arXiv 1906.04721, 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.foundation.quiet import quiet
from efflab.model_surgery.graphs.onnx_graph import attributes, open_graph, weight_axes
from efflab.model_surgery.quantization.qdq import Feed, layers

if TYPE_CHECKING:
    import numpy as np


def correct_biases(float_path: Path, int8_path: Path, batches: Iterable[Feed]) -> int:
    """Change the biases of `int8_path` in place, and return how many layers were corrected.

    A rounded weight moves a layer's mean output by (rounded weight - weight) x mean input. The mean input of each channel
    is measured on `batches` in the float graph; zero padding is not looked at. Layers without a bias are passed over.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    means = _mean_inputs(float_path, batches)
    weights = {one.name: one for one in onnx.load(str(float_path)).graph.initializer}
    model = onnx.load(str(int8_path))
    stored = {one.name: one for one in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    corrected = 0
    for layer in layers(float_path):
        node = next((one for one in model.graph.node if one.name == layer.node), None)
        if node is None or not layer.bias or layer.node not in means or layer.operator == "ConvTranspose":
            continue
        rounded, bias = (makers.get(node.input[place]) for place in (1, 2))
        if rounded is None or bias is None or bias.op_type != "DequantizeLinear" or bias.input[0] not in stored:
            continue
        change = _dequantized(rounded, stored) - numpy_helper.to_array(weights[layer.weight])
        moved = _mean_change(node, change, means[layer.node])
        scale = numpy_helper.to_array(stored[bias.input[1]])
        was = numpy_helper.to_array(stored[bias.input[0]])
        now = np.clip(was - np.rint(moved / scale), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        stored[bias.input[0]].CopyFrom(numpy_helper.from_array(now, bias.input[0]))
        corrected += 1
    onnx.save(model, str(int8_path))
    return corrected


def _dequantized(node: Any, stored: dict[str, Any]) -> np.ndarray:
    """Return the numbers that a DequantizeLinear of a stored weight gives."""
    import numpy as np
    from onnx import numpy_helper

    integers, scale = (numpy_helper.to_array(stored[node.input[place]]).astype(np.float32) for place in (0, 1))
    zero = numpy_helper.to_array(stored[node.input[2]]).astype(np.float32) if len(node.input) > 2 else np.float32(0)
    axis = int(attributes(node).get("axis", 1))
    if scale.ndim:
        shape = [-1 if place == axis % integers.ndim else 1 for place in range(integers.ndim)]
        scale, zero = scale.reshape(shape), np.reshape(zero, shape)
    result: np.ndarray = (integers - zero) * scale
    return result


def _mean_change(node: Any, change: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return by how much the changed weight moves each output channel's mean."""
    import numpy as np

    settings = attributes(node)
    if node.op_type == "Conv":
        flat = change.reshape(*change.shape[:2], -1).sum(axis=2)  # (out, in of a group)
        groups = int(settings.get("group", 1))
        seen = np.repeat(mean.reshape(groups, -1), flat.shape[0] // groups, axis=0)
        moved: np.ndarray = (flat * seen).sum(axis=1)
        return moved
    if change.ndim > 2:  # matrices side by side, each with an own output: their means cannot share one bias
        return np.zeros(change.shape[-1])
    matrix = change if weight_axes(node, change.ndim)[0] == 0 else change.T
    return np.asarray(matrix @ mean)


def _mean_inputs(path: Path, batches: Iterable[Feed]) -> dict[str, np.ndarray]:
    """Return the mean of each input channel of the layers, over batches and places, one batch held at a time."""
    import numpy as np
    import onnx
    import torch

    model = onnx.load(str(path))
    wanted = {layer.node for layer in layers(path)}
    source = {node.name: (node.input[0], node.op_type) for node in model.graph.node if node.name in wanted}
    inputs = {value.name for value in model.graph.input}
    given = {value.name for value in model.graph.output} | inputs
    names = list(dict.fromkeys(name for name, _ in source.values() if name not in given))
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with quiet():
        session = open_graph(model.SerializeToString(), torch.get_num_threads())
    asked = [value.name for value in session.get_outputs()]
    sums: dict[str, Any] = {}
    count = 0
    for feed in batches:
        values = {**feed, **dict(zip(asked, session.run(asked, feed), strict=True))}
        rows = len(next(iter(feed.values())))
        count += rows
        for node, (name, operator) in source.items():
            if name in values:
                kept = 1 if operator == "Conv" else values[name].ndim - 1
                others = tuple(axis for axis in range(values[name].ndim) if axis != kept)
                sums[node] = sums.get(node, 0) + values[name].astype(np.float64).mean(axis=others) * rows
    return {node: total / count for node, total in sums.items()}
