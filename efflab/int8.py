"""Quantises ONNX graphs to integers with ONNX Runtime: ranges of activations, the QDQ graph, the error of its parts."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from efflab.onnx_graph import open_graph, output_axis
from efflab.quiet import quiet

Calibrator = Literal["minmax", "entropy", "percentile", "mse"]
Feed = dict[str, np.ndarray]  # input name -> one batch
BINS = 2048  # of the histograms in which `mse` looks for ranges
CANDIDATES = np.linspace(0.2, 1.0, 33)  # shares of the seen range that `mse` tries
LEVELS = 255  # steps of 8 bits


@dataclass(frozen=True)
class Layer:
    """A node with a stored weight: what can be quantised, or kept in float, by itself."""

    node: str
    operator: str
    weight: str
    bias: str  # "" if it has none


def layers(path: Path) -> list[Layer]:
    """Return the Conv, Gemm and MatMul nodes of a graph that have a stored weight, in the order of the graph."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [
        Layer(node.name, node.op_type, node.input[1], node.input[2] if len(node.input) > 2 else "")
        for node in graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in stored
    ]


def feeds(path: Path, batches: Iterable[tuple[np.ndarray, ...]]) -> list[Feed]:
    """Return the batches by the names of the graph's inputs; arrays are not copied."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    return [dict(zip(names, batch, strict=True)) for batch in batches]


def prepare(source: Path, target: Path) -> None:
    """Write a copy of a graph with inferred shapes and folded constants, which quantisation starts from."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet():
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


class _Once:
    """Gives one batch, as ONNX Runtime's calibrators ask for them, so that activations of one batch are held at a time."""

    def __init__(self, feed: Feed):
        self.rest: Iterator[Feed] = iter([feed])

    def get_next(self) -> Feed | None:
        return next(self.rest, None)


def tensor_ranges(prepared: Path, batches: Sequence[Feed], calibrator: Calibrator, symmetric: bool) -> Any:
    """Return the range of each activation (onnxruntime's TensorsData), streaming: memory does not grow with the batches.

    minmax: all that was seen. entropy: least KL divergence (Migacz 2017). percentile: 99.999 % of what was seen.
    mse: least squared error of rounding and clipping (Choukroun et al. 2019, arXiv 1902.06822).
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    method = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
        "mse": CalibrationMethod.Entropy,  # for its histograms
    }[calibrator]
    extra: dict[str, Any] = {"num_bins": BINS} if calibrator == "mse" else {}
    with tempfile.TemporaryDirectory() as scratch, quiet():
        collector: Any = create_calibrator(
            prepared, _operators(), str(Path(scratch) / "augmented.onnx"), method, extra_options=extra
        )
        for feed in batches:
            collector.collect_data(_Once(feed))
        return _least_squares(collector, symmetric) if calibrator == "mse" else collector.compute_data()


def _operators() -> list[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


def _least_squares(collector: Any, symmetric: bool) -> Any:
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import TensorsData

    chosen = {}
    for name, (counts, edges, low, high, _) in collector.collector.get_histogram_dict().items():
        pair = least_squares_range(counts, edges, float(low), float(high), symmetric)
        chosen[name] = tuple(np.array(value, dtype=np.float32) for value in pair)
    return TensorsData(CalibrationMethod.MinMax, chosen)


def least_squares_range(
    counts: np.ndarray, edges: np.ndarray, low: float, high: float, symmetric: bool
) -> tuple[float, float]:
    """Return the range, zero in it, of least squared error: rounding costs step^2 / 12, clipping its distance squared.

    counts, edges: a histogram of the values, whose least is `low` and largest `high`.
    """
    middles = (edges[:-1] + edges[1:]) / 2
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    lows, highs = low * CANDIDATES, high * CANDIDATES
    below = [(counts * np.maximum(low - middles, 0) ** 2).sum() for low in lows]
    above = [(counts * np.maximum(middles - high, 0) ** 2).sum() for high in highs]
    rounding = counts.sum() * ((highs[None, :] - lows[:, None]) / LEVELS) ** 2 / 12
    errors = rounding + np.array(below)[:, None] + np.array(above)[None, :]
    if symmetric:
        place = int(errors.diagonal().argmin())
        return float(lows[place]), float(highs[place])
    bottom, top = np.unravel_index(int(errors.argmin()), errors.shape)
    return float(lows[bottom]), float(highs[top])


def write_qdq(
    prepared: Path,
    target: Path,
    ranges: Any,
    per_channel: bool = True,
    symmetric: bool = False,
    only: Collection[str] = (),
    in_float: Collection[str] = (),
    four_bits: Collection[Layer] = (),
) -> None:
    """Write the QDQ graph of `prepared`: activations in 8 bits by `ranges`, weights in 8, those of `four_bits` in 4.

    only: names of the nodes to quantise (none: all that can be). in_float: names of nodes that stay as they are.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.calibrate import save_tensors_data

    kinds = quantization.QuantType
    extra: dict[str, Any] = {"ActivationSymmetric": symmetric}
    if four_bits:
        extra["TensorQuantOverrides"] = _four_bit_weights(prepared, four_bits, per_channel)
    with tempfile.TemporaryDirectory() as scratch, quiet():
        kept = Path(scratch) / "ranges.json"
        save_tensors_data(ranges, kept)
        quantization.quantize_static(
            str(prepared),
            str(target),
            None,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_operators(),
            per_channel=per_channel,
            # ranges centred on zero need a signed type, else half of it is unused; otherwise unsigned activations times
            # signed weights are what x86 processors multiply fastest
            activation_type=kinds.QInt8 if symmetric else kinds.QUInt8,
            weight_type=kinds.QInt8,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(in_float),
            calibrate_method=ranges.calibration_method,
            extra_options=extra,
            calibration_cache_path=kept,
        )


def _four_bit_weights(path: Path, chosen: Collection[Layer], per_channel: bool) -> dict[str, list[dict[str, Any]]]:
    """Return onnxruntime's overrides for weights of 4 bits, symmetric from -7 to 7; its own scales would clip at +7."""
    import onnx
    from onnx import numpy_helper
    from onnxruntime.quantization import QuantType

    graph = onnx.load(str(path)).graph
    nodes = {node.name: node for node in graph.node}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    overrides = {}
    for layer in chosen:
        value = numpy_helper.to_array(stored[layer.weight]).astype(np.float32)
        axis = output_axis(nodes[layer.node])
        flat = np.moveaxis(value, axis, 0).reshape(value.shape[axis] if per_channel else 1, -1)
        largest = np.abs(flat).max(axis=1)
        entries: list[dict[str, Any]] = [
            {"quant_type": QuantType.QInt4, "scale": np.float32(most / 7 if most else 1), "zero_point": np.int8(0)}
            for most in largest
        ]
        overrides[layer.weight] = [{"axis": axis, **entries[0]}, *entries[1:]] if per_channel else entries
    return overrides


def outputs(path: Path, batches: Iterable[Feed]) -> np.ndarray:
    """Return the first output of a graph for all batches, joined."""
    import torch

    session = open_graph(path, torch.get_num_threads())
    return np.concatenate([session.run(None, feed)[0] for feed in batches])


def relative_error(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the mean squared difference as a share of the wanted outputs' mean square."""
    power = float(np.mean(np.square(wanted, dtype=np.float64)))
    return float(np.mean(np.square(wanted.astype(np.float64) - found))) / (power or 1.0)
