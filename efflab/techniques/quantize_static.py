"""Quantises weights and activations to 8-bit integers with calibrated ranges (Jacob et al. 2018, arXiv 1712.05877)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError, Unavailable
from efflab.model_surgery.quantization.settings import CalibrationExamples, Calibrator, CalibratorSetting, PerChannel

if TYPE_CHECKING:
    import numpy as np

    from efflab.model_surgery.quantization.qdq import Feed

GRAPH = "model.onnx"
SENSITIVITY_BATCHES = 8  # of calibration examples, on which layers are compared
Engine = Literal["onnxruntime", "nncf"]


class QuantizeStatic(Technique):
    """Quantise weights and activations to int8, their ranges fixed from training examples (Jacob et al. 2018).

    It helps most on processors with int8 dot products (AVX512-VNNI, AMX, Arm i8mm): 2 to 4 times faster at a loss of
    0 to 1 points. The engine matters for speed as much as for quality: NNCF leaves out what costs more than it gains. Where
    int8 loses too much, try `mse`, `correct_bias` (Nagel et al. 2019, section 4.2), then `keep_float`, then `quantize_aware`.
    """

    version: ClassVar[int] = 2  # bounds of Clip that a range cannot stand for are kept
    takes: ClassVar[Form] = "onnx"
    gives: ClassVar[Form] = "onnx"
    least_sqnr_db: ClassVar[float | None] = 0.0  # below it there is more error than signal
    claims: ClassVar[tuple[str, ...]] = ("bit_operations", "artefact_bytes")
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static", "quantize_dynamic", "quantize_weights", "quantize_mixed")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "channels are ranked in float, and ranges are those of the channels that stay",
        "finetune": "training needs float weights, and moves the ranges",
        "reestimate_norms": "norms are folded into the weights whose ranges count",
    }
    tiny: ClassVar[dict[str, Any]] = {"calibration_examples": 64}

    calibration_examples: CalibrationExamples = 512
    calibrator: CalibratorSetting = "minmax"
    per_channel: PerChannel = True
    symmetric: Annotated[
        bool,
        Field(
            description="Centre activation ranges on zero; with engine `onnxruntime`, such graphs are slow in ONNX "
            "Runtime on x86 processors."
        ),
    ] = False
    engine: Annotated[
        Engine,
        Field(
            description="Library that quantises: ONNX Runtime, or NNCF, which also corrects biases and chooses what "
            "stays in float."
        ),
    ] = "onnxruntime"
    keep_float: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="Number of layers that stay in float: those whose quantisation changes the outputs most.",
        ),
    ] = 0
    correct_bias: Annotated[
        bool, Field(description="Correct the biases by the mean error that the rounding of the weights causes.")
    ] = False

    @model_validator(mode="after")
    def _engine_has_it(self) -> Self:
        if self.engine == "nncf":
            if self.calibrator in ("entropy", "mse"):
                raise ValueError(f"engine nncf has no calibrator {self.calibrator}; take minmax or percentile")
            if self.correct_bias or self.keep_float:
                raise ValueError("engine nncf corrects biases and leaves out layers by itself; drop these settings")
        return self

    def apply(self, model: Any, context: Context) -> Result:
        """Quantise; raise Unavailable if the engine is not installed."""
        from efflab.contracts.examples import calibration_batches
        from efflab.model_surgery.quantization.float_weights import float_weights_note

        path = context.folder / GRAPH
        settings = self.model_dump(exclude={"calibration_examples"})
        batches = calibration_batches(context.task, self.calibration_examples)
        quantize_static(model, path, batches, output=context.task.interface.scored, **settings)
        return Result(path, notes=float_weights_note(path))


def quantize_static(
    onnx_in: Path,
    onnx_out: Path,
    calibration_batches: Iterable[tuple[np.ndarray, ...]],
    calibrator: Calibrator = "minmax",
    per_channel: bool = True,
    symmetric: bool = False,
    engine: Engine = "onnxruntime",
    keep_float: int = 0,
    correct_bias: bool = False,
    output: int | None = None,
) -> None:
    """Write a QDQ int8 copy of `onnx_in` to `onnx_out` (which may be the same file).

    calibration_batches: inputs of the graph, in its order. output: the one by which `keep_float` compares layers.
    Raises RequestError if nothing could be quantised or all is already, Unavailable if the engine is not installed.
    """
    import onnx

    from efflab.foundation.quiet import quiet
    from efflab.model_surgery.quantization.already_quantized import refuse_quantized
    from efflab.model_surgery.quantization.bias_correction import correct_biases
    from efflab.model_surgery.quantization.float_graph import load_float_graph
    from efflab.model_surgery.quantization.qdq import feeds, prepare, tensor_ranges, write_qdq

    refuse_quantized(onnx_in)
    if engine == "nncf" and importlib.util.find_spec("nncf") is None:
        raise Unavailable('nncf is not installed: pip install "efflab[nncf]"')
    part, prepared = onnx_out.with_suffix(".part"), onnx_out.with_suffix(".prepared")
    try:
        if engine == "nncf":
            onnx.save(load_float_graph(onnx_in), str(prepared))
            with quiet():
                _by_nncf(prepared, part, feeds(prepared, calibration_batches), calibrator, per_channel, symmetric)
        else:
            prepare(onnx_in, prepared)
            batches = feeds(prepared, calibration_batches)
            ranges = tensor_ranges(prepared, batches, calibrator, symmetric)
            kept: list[str] = []
            if keep_float:
                kept = _most_sensitive(prepared, batches, ranges, per_channel, symmetric, keep_float, output)
            write_qdq(prepared, part, ranges, per_channel, symmetric, in_float=kept)
            if correct_bias:
                correct_biases(prepared, part, batches)
    finally:
        prepared.unlink(missing_ok=True)
    if not any(node.op_type == "QuantizeLinear" for node in onnx.load(str(part)).graph.node):
        part.unlink()
        raise RequestError("quantize_static: the graph has nothing that can be quantised")
    part.replace(onnx_out)


def _most_sensitive(
    prepared: Path, batches: list[Feed], ranges: Any, per_channel: bool, symmetric: bool, count: int, output: int | None
) -> list[str]:
    """Return the nodes whose quantisation alone changes the outputs most; raise RequestError if none would be left."""
    from efflab.model_surgery.quantization.qdq import layers, outputs, relative_error, write_qdq

    every = layers(prepared)
    if count >= len(every):
        raise RequestError(
            f"quantize_static: keep_float is {count}, but the graph has {len(every)} layers with weights"
        )
    few = batches[:SENSITIVITY_BATCHES]
    wanted, errors = outputs(prepared, few, output), {}
    alone = prepared.with_suffix(".alone")
    try:
        for layer in every:
            write_qdq(prepared, alone, ranges, per_channel, symmetric, only=[layer.node])
            errors[layer.node] = relative_error(wanted, outputs(alone, few, output))
    finally:
        alone.unlink(missing_ok=True)
    return sorted(errors, key=lambda node: -errors[node])[:count]


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
    source: Path, target: Path, batches: list[Feed], calibrator: Calibrator, per_channel: bool, symmetric: bool
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
        nncf.Dataset(batches),
        preset=preset,
        subset_size=len(batches),
        advanced_parameters=advanced,
    )
    onnx.save(quantized, str(target))
