"""Quantises each layer to 4 or 8 bits, or leaves it in float, under a budget (Wang et al. 2019, "HAQ", arXiv 1811.08886)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError
from efflab.model_surgery.quantization.settings import CalibrationExamples, Calibrator, CalibratorSetting, PerChannel

if TYPE_CHECKING:
    import numpy as np

    from efflab.model_surgery.quantization.qdq import Feed, WeightLayer

GRAPH = "model.onnx"
SENSITIVITY_BATCHES = 8  # of calibration examples, on which layers are compared
NOTE = "weight_bits"  # key of the graph's metadata under which the bits of each node stand
BITS = (32, 8, 4)  # of a layer's weights; activations of quantised layers have 8
Choice = dict[str, int]  # node -> bits


class QuantizeMixed(Technique):
    """Give each layer 4-bit, 8-bit or float weights so that a budget is met at the least error (after HAQ, Wang 2019).

    Layers are changed one by one, first where the outputs change least for the bit operations saved. It helps where plain
    int8 loses too much, or 4 bits are worth memory; runtimes without 4-bit products unpack them, which saves bytes and no
    time.
    """

    version: ClassVar[int] = 2  # biases beside tiny weights fit into 32 bits
    takes: ClassVar[Form] = "onnx"
    least_sqnr_db: ClassVar[float | None] = 0.0  # below it there is more error than signal
    gives: ClassVar[Form] = "onnx"
    claims: ClassVar[tuple[str, ...]] = ("bit_operations", "artefact_bytes")
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    before: ClassVar[tuple[str, ...]] = ("quantize_static", "quantize_dynamic", "quantize_weights", "quantize_mixed")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "channels are ranked in float, and sensitivities are those of the channels that stay",
        "finetune": "training needs float weights, and moves the ranges",
    }
    tiny: ClassVar[dict[str, Any]] = {"bit_operations": 0.2, "calibration_examples": 64}

    bit_operations: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        Field(
            description="Budget: largest share of the float graph's bit operations that remains; int8 is 1/16, 4-bit "
            "weights 1/32. Give this or `loss`."
        ),
    ] = None
    loss: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Field(
            description="Budget: validation quality that may be lost, as a fraction: 0.01 is one percentage point. "
            "Give this or `bit_operations`."
        ),
    ] = None
    calibration_examples: CalibrationExamples = 512
    validation_examples: Annotated[
        int, Field(ge=1, le=100_000, description="Number of validation examples on which the budget `loss` is checked.")
    ] = 1000
    calibrator: CalibratorSetting = "minmax"
    per_channel: PerChannel = True

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.bit_operations is None) == (self.loss is None):
            raise ValueError("give one budget: bit_operations or loss")
        return self

    def apply(self, model: Any, context: Context) -> Result:
        """Quantise; raise RequestError if the budget cannot be met, with the nearest that can."""
        from efflab.contracts.examples import calibration_batches, input_batches
        from efflab.model_surgery.quantization.qdq import feeds, outputs
        from efflab.profiling.work_of_artefact import example_shapes

        task, path = context.task, context.folder / GRAPH
        split = task.split("validation")
        batches = [*input_batches(task, split, self.validation_examples, 250)]
        count, output = sum(len(batch[0]) for batch in batches), task.interface.scored
        targets = split.batch(range(count)).targets

        def quality(graph: Path) -> float:
            found = outputs(graph, feeds(graph, batches), output)
            return task.quality(task.scores(found, targets))

        calibration = calibration_batches(task, self.calibration_examples)
        budget = _Budget(self.bit_operations, self.loss, quality, example_shapes(model, task))
        quantize_mixed(model, path, calibration, budget, self.calibrator, self.per_channel, context.report, output)
        return Result(path)


@dataclass(frozen=True)
class _Budget:
    """What may be spent: a share of the bit operations, or a loss of `quality`, which scores a graph."""

    bit_operations: float | None
    loss: float | None
    quality: Callable[[Path], float]
    shapes: Mapping[str, tuple[int, ...]] | None = None  # of one example, by input, where the graph leaves axes free


def quantize_mixed(
    onnx_in: Path,
    onnx_out: Path,
    calibration_batches: Iterable[tuple[np.ndarray, ...]],
    budget: _Budget,
    calibrator: Calibrator = "minmax",
    per_channel: bool = True,
    report: Callable[[int, int, str], None] = lambda done, total, note: None,
    output: int | None = None,
) -> Choice:
    """Write a QDQ copy of `onnx_in` to `onnx_out` and return the weight bits of each node that has a stored weight.

    The graph's metadata holds them too, under `weight_bits`. output: the one by which layers are compared.

    Raises RequestError if the budget cannot be met, or leaves nothing to quantise, or all is quantised already.
    """
    import json

    import onnx

    from efflab.model_surgery.quantization.already_quantized import refuse_quantized
    from efflab.model_surgery.quantization.qdq import feeds, layers, prepare, tensor_ranges, write_qdq

    refuse_quantized(onnx_in)
    prepared, trial = onnx_out.with_suffix(".prepared"), onnx_out.with_suffix(".trial")
    try:
        prepare(onnx_in, prepared)
        batches = feeds(prepared, calibration_batches)
        every = layers(prepared)
        ranges = tensor_ranges(prepared, batches, calibrator, symmetric=False)

        def write(choice: Choice) -> Path:
            in_float = [layer.node for layer in every if choice[layer.node] == 32]
            four = [layer for layer in every if choice[layer.node] == 4]
            write_qdq(prepared, trial, ranges, per_channel, in_float=in_float, four_bits=four)
            return trial

        path = _path(
            every, _errors(every, prepared, batches, write, report, output), _bit_operations(prepared, budget.shapes)
        )
        place = _fit(path, budget, prepared, write)
        model = onnx.load(str(write(path[place])))
        onnx.helper.set_model_props(model, {NOTE: json.dumps(path[place])})
        onnx.save(model, str(trial))
        trial.replace(onnx_out)
        return path[place]
    finally:
        prepared.unlink(missing_ok=True)
        trial.unlink(missing_ok=True)


def _errors(
    every: Sequence[WeightLayer],
    prepared: Path,
    batches: Sequence[Feed],
    write: Callable[[Choice], Path],
    report: Any,
    output: int | None,
) -> dict[tuple[str, int], float]:
    """Return how much the outputs change when one layer alone has 8 or 4 bits."""
    from efflab.model_surgery.quantization.qdq import outputs, relative_error

    few = batches[:SENSITIVITY_BATCHES]
    wanted, errors = outputs(prepared, few, output), {}
    for number, layer in enumerate(every):
        for bits in BITS[1:]:
            choice = {one.node: 32 for one in every} | {layer.node: bits}
            errors[layer.node, bits] = relative_error(wanted, outputs(write(choice), few, output))
        report(number + 1, len(every), layer.node)
    return errors


def _bit_operations(prepared: Path, shapes: Mapping[str, tuple[int, ...]] | None) -> dict[str, int]:
    """Return the MACs of each node that has a stored weight, for one example."""
    from efflab.profiling.work_onnx import macs_by_node

    return macs_by_node(prepared, shapes)


def _path(every: Sequence[WeightLayer], errors: dict[tuple[str, int], float], macs: dict[str, int]) -> list[Choice]:
    """Return the choices from all in float to all in 4 bits, each one step of one layer from the one before.

    The next step is the one that saves most bit operations for what it adds to the error.
    """
    choice = {layer.node: 32 for layer in every}
    path = [dict(choice)]

    def worth(node: str, bits: int) -> float:
        saved = macs.get(node, 0) * (_cost(choice[node]) - _cost(bits))
        added = errors[node, bits] - errors.get((node, choice[node]), 0.0)
        return saved / max(added, 1e-12)

    while any(bits > 4 for bits in choice.values()):
        steps = [(node, 8 if bits == 32 else 4) for node, bits in choice.items() if bits > 4]
        node, bits = max(steps, key=lambda step: worth(*step))
        choice[node] = bits
        path.append(dict(choice))
    return path


def _cost(bits: int) -> int:
    """Return the bit operations of a MAC: weight bits x activation bits."""
    return 32 * 32 if bits == 32 else bits * 8


def _fit(path: list[Choice], budget: _Budget, prepared: Path, write: Callable[[Choice], Path]) -> int:
    """Return the place of the first choice within the budget of bit operations, or of the last within that of loss."""
    if budget.bit_operations is not None:
        from efflab.profiling.work_of_artefact import count_onnx

        whole = count_onnx(prepared, budget.shapes)["bit_operations"]
        if not whole:
            raise RequestError("quantize_mixed: the products of this graph cannot be counted, so no budget can be met")
        allowed = budget.bit_operations * whole
        return _first(path, lambda choice: count_onnx(write(choice), budget.shapes)["bit_operations"] / allowed, budget)
    least = budget.quality(prepared) - (budget.loss or 0.0)
    # losses need not grow along the path, so bisection finds a crossing, not surely the last one
    low, high = 0, len(path) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if budget.quality(write(path[middle])) >= least - 1e-9:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        raise RequestError(f"quantize_mixed: every layer loses more than {budget.loss:g} by itself; allow more")
    return low


def _first(path: list[Choice], spent: Callable[[Choice], float], budget: _Budget) -> int:
    """Return the place of the first choice that spends at most 1 of the budget; later ones spend less."""
    low, high = 1, len(path) - 1
    least = spent(path[high]) * (budget.bit_operations or 0.0)
    if least > (budget.bit_operations or 0.0):
        what = f"4 bits everywhere still take {least:.4f} of the float graph's bit operations"
        raise RequestError(f"quantize_mixed: {what}, more than {budget.bit_operations:g}; allow that much")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if spent(path[middle]) <= 1 else (middle + 1, high)
    return low
