"""Quantises weights and activations to 8-bit integers with calibrated ranges (Jacob et al. 2018, arXiv 1712.05877)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from efflab.errors import RequestError, Unavailable
from efflab.technique import Context, Form, Result, Technique

if TYPE_CHECKING:
    import numpy as np

GRAPH = "model.onnx"
Engine = Literal["onnxruntime", "nncf"]
Calibrator = Literal["minmax", "entropy", "percentile"]


class QuantizeStatic(Technique):
    """Quantise weights and activations to int8, their ranges fixed from training examples (Jacob et al. 2018).

    It helps most on processors with int8 dot products (AVX512-VNNI, AMX, Arm i8mm). The engine matters for speed as
    much as for quality: NNCF leaves out what costs more than it gains and corrects biases.
    """

    takes: ClassVar[Form] = "onnx"
    gives: ClassVar[Form] = "onnx"
    claims: ClassVar[tuple[str, ...]] = ("bit_operations", "artefact_bytes")
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static", "quantize_dynamic")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "channels are ranked in float, and ranges are those of the channels that stay",
        "finetune": "training needs float weights, and moves the ranges",
        "reestimate_norms": "norms are folded into the weights whose ranges count",
    }
    tiny: ClassVar[dict[str, Any]] = {"calibration_examples": 64}

    calibration_examples: Annotated[int, Field(ge=1, le=100_000)] = 512  # of the training split
    calibrator: Calibrator = "minmax"  # how a range is chosen from what was seen
    per_channel: bool = True  # a scale for each output channel of a weight, else one for the tensor
    symmetric: bool = False  # activation ranges centred on zero; on x86 slow in ONNX Runtime if its engine made them
    engine: Engine = "onnxruntime"

    @model_validator(mode="after")
    def _engine_has_calibrator(self) -> Self:
        if self.engine == "nncf" and self.calibrator == "entropy":
            raise ValueError("engine nncf has no calibrator entropy; take minmax or percentile")
        return self

    def apply(self, model: Any, context: Context) -> Result:
        """Quantise; raise Unavailable if the engine is not installed."""
        from efflab.calibration import calibration_batches

        path = context.folder / GRAPH
        batches = calibration_batches(context.task, self.calibration_examples)
        quantize_static(model, path, batches, self.calibrator, self.per_channel, self.symmetric, self.engine)
        return Result(path)


def quantize_static(
    onnx_in: Path,
    onnx_out: Path,
    calibration_batches: Iterable[tuple[np.ndarray, ...]],
    calibrator: Calibrator = "minmax",
    per_channel: bool = True,
    symmetric: bool = False,
    engine: Engine = "onnxruntime",
) -> None:
    """Write a QDQ int8 copy of `onnx_in` to `onnx_out` (which may be the same file).

    calibration_batches: inputs of the graph, in its order. Raises RequestError if nothing could be quantised
    or all is already, Unavailable if the engine is not installed.
    """
    import onnx

    from efflab.calibration import refuse_quantized
    from efflab.quiet import quiet

    refuse_quantized(onnx_in)
    batches = list(calibration_batches)
    if engine == "nncf" and importlib.util.find_spec("nncf") is None:
        raise Unavailable('nncf is not installed: pip install "efflab[nncf]"')
    part = onnx_out.with_suffix(".part")
    with quiet():
        run = _by_nncf if engine == "nncf" else _by_onnxruntime
        run(onnx_in, part, batches, calibrator, per_channel, symmetric)
    if not any(node.op_type == "QuantizeLinear" for node in onnx.load(str(part)).graph.node):
        part.unlink()
        raise RequestError("quantize_static: the graph has nothing that can be quantised")
    part.replace(onnx_out)


def _feeds(path: Path, batches: list[tuple[np.ndarray, ...]]) -> list[dict[str, np.ndarray]]:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    return [dict(zip(names, batch, strict=True)) for batch in batches]


class _Reader:
    """Feeds calibration batches range by range, so that activations of one batch are held at a time."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]):
        self.feeds = feeds
        self.rest: Iterator[dict[str, np.ndarray]] = iter(feeds)

    def __len__(self) -> int:
        return len(self.feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.rest = iter(self.feeds[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)


def _by_onnxruntime(
    source: Path, target: Path, batches: list[Any], calibrator: Calibrator, per_channel: bool, symmetric: bool
) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = quantization.CalibrationMethod
    prepared = target.with_suffix(".prepared")
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            _Reader(_feeds(source, batches)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=per_channel,
            # ranges centred on zero need a signed type, else half of it is unused; otherwise unsigned activations times
            # signed weights are what x86 processors multiply fastest
            activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method={
                "minmax": methods.MinMax,
                "entropy": methods.Entropy,
                "percentile": methods.Percentile,
            }[calibrator],
            extra_options={"ActivationSymmetric": symmetric, "CalibStridedMinMax": 1},
        )
    finally:
        prepared.unlink(missing_ok=True)


def _import_nncf() -> Any:
    """Import NNCF without its usage reports: it sends none where it believes itself in continuous integration."""
    os.environ["NNCF_CI"] = "1"
    ours = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        import nncf
    finally:
        if ours is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = ours
    return nncf


def _by_nncf(
    source: Path, target: Path, batches: list[Any], calibrator: Calibrator, per_channel: bool, symmetric: bool
) -> None:
    import onnx

    nncf = _import_nncf()
    from nncf.quantization import range_estimator as ranges
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

    activations = None
    if calibrator == "percentile":
        statistic, mean = ranges.StatisticsType.QUANTILE, ranges.AggregatorType.MEAN
        activations = ranges.RangeEstimatorParameters(
            min=ranges.StatisticsCollectorParameters(statistic, mean, quantile_outlier_prob=1e-4),
            max=ranges.StatisticsCollectorParameters(statistic, mean, quantile_outlier_prob=1e-4),
        )
    advanced = AdvancedQuantizationParameters(
        weights_quantization_params=QuantizationParameters(per_channel=per_channel),
        activations_range_estimator_params=activations or ranges.RangeEstimatorParametersSet.MINMAX,
    )
    preset = nncf.QuantizationPreset.PERFORMANCE if symmetric else nncf.QuantizationPreset.MIXED
    quantized = nncf.quantize(
        onnx.load(str(source)),
        nncf.Dataset(_feeds(source, batches)),
        preset=preset,
        subset_size=len(batches),
        advanced_parameters=advanced,
    )
    onnx.save(quantized, str(target))
