"""Quantises ONNX graphs to integers with ONNX Runtime: ranges of activations, the QDQ graph, the error of its parts."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efflab.artefacts.interface import as_port, graph_ports
from efflab.foundation.quiet import quiet
from efflab.model_surgery.graphs.onnx_graph import open_graph
from efflab.model_surgery.quantization.float_graph import opset_of, prepare
from efflab.model_surgery.quantization.int8_weights import (
    WeightLayer,
    clips_that_matter,
    eight_bit_weights,
    four_bit_weights,
    input_scales,
    layers,
    ranges_behind_clips,
    unbounded_nodes,
)
from efflab.model_surgery.quantization.settings import Calibrator

__all__ = ["Calibrator", "Feed", "WeightLayer", "feeds", "layers", "outputs", "prepare", "relative_error", "tensor_ranges",
           "write_qdq"]  # fmt: skip

Feed = dict[str, np.ndarray]  # input name -> one batch
BINS = 2048  # of the histograms in which `mse` looks for ranges
CANDIDATES = np.linspace(0.2, 1.0, 33)  # shares of the seen range that `mse` tries
LEVELS = 255  # steps of 8 bits
FOUR_BIT_OPSET = 21  # before it, integers of 4 bits are ONNX Runtime's own


def feeds(path: Path, batches: Iterable[tuple[np.ndarray, ...]]) -> list[Feed]:
    """Return the batches by the names of the graph's inputs, in their element types; arrays that fit are not copied."""
    ports, _ = graph_ports(path)
    return [{port.name: as_port(array, port) for port, array in zip(ports, batch, strict=True)} for batch in batches]


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
    four_bits: Collection[WeightLayer] = (),
) -> None:
    """Write the QDQ graph of `prepared`: activations in 8 bits by `ranges`, weights in 8, those of `four_bits` in 4.

    only: names of the nodes to quantise (none: all that can be). in_float: names of nodes that stay as they are.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.calibrate import save_tensors_data

    kinds = quantization.QuantType
    model = onnx.load(str(prepared))
    graph, ranges = model.graph, ranges_behind_clips(model.graph, ranges)
    overrides = eight_bit_weights(graph) if per_channel else {}
    overrides |= four_bit_weights(graph, four_bits, per_channel, input_scales(graph, ranges, symmetric))
    extra: dict[str, Any] = {"ActivationSymmetric": symmetric, "TensorQuantOverrides": overrides}
    if four_bits and opset_of(model) < FOUR_BIT_OPSET:
        extra["UseQDQContribOps"] = True
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
            nodes_to_exclude=[*in_float, *clips_that_matter(graph), *unbounded_nodes(graph, ranges)],
            calibrate_method=ranges.calibration_method,
            extra_options=extra,
            calibration_cache_path=kept,
        )


def outputs(path: Path, batches: Iterable[Feed], place: int | None = 0) -> np.ndarray:
    """Return one output of a graph, the first by default, for all batches, joined.

    Operators are computed as ONNX defines them, so that choices do not depend on what this processor's kernels saturate.
    """
    import torch

    session = open_graph(path, torch.get_num_threads(), optimised=False)
    return np.concatenate([session.run(None, feed)[place or 0] for feed in batches])


def relative_error(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the mean squared difference as a share of the wanted outputs' mean square, where these are finite."""
    usable = np.isfinite(wanted)  # classes that are switched off are -inf by design
    right, given = wanted[usable].astype(np.float64), found[usable].astype(np.float64)
    power = float(np.mean(np.square(right))) if right.size else 0.0
    return (float(np.mean(np.square(right - given))) if right.size else 0.0) / (power or 1.0)
