"""Trains with the rounding of int8 emulated, so that the weights get used to it (Jacob et al. 2018, arXiv 1712.05877, 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result
from efflab.contracts.trains import Trains
from efflab.foundation.errors import RequestError
from efflab.records.cost import Cost

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from efflab.contracts.task import Task
    from efflab.contracts.trains import TrainingRun

MEMORY = 0.99  # of the moving averages of activation ranges


class QuantizeAware(Trains):
    """Train on with weights and layer inputs rounded as int8 rounds them; end with weights on the grid (Jacob et al. 2018).

    The model stays a float one: `export_onnx` and then `quantize_static` (per channel, `minmax`) make the QDQ graph, whose
    integers are exactly the trained ones; with `weight_bits: 4`, `quantize_mixed` does. It helps where calibration alone
    loses too much: 4 bits, depthwise nets, small nets. It costs a tenth of the baseline's training or more.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "pruning afterwards moves weights off the grid they were trained on",
        "prune_weights": "training under rounding keeps zeros where they are",
        "finetune": "training without rounding afterwards moves weights off the grid",
        "distill": "training without rounding afterwards moves weights off the grid",
        "low_rank": "split layers have other weights to get used to rounding",
    }
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 3.0, "learning_rate": 0.005, "weight_decay": 1e-4}
    tiny: ClassVar[dict[str, Any]] = {"epochs": 1.0, "batch_size": 64, "calibration_examples": 64}

    weight_bits: Annotated[
        Literal[8, 4],
        Field(
            description="Bits of the weights, with one symmetric scale for each output channel; layer inputs always "
            "have 8 bits."
        ),
    ] = 8
    calibration_examples: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Number of training examples from which the first ranges of the layer inputs are taken.",
        ),
    ] = 512

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.contracts.examples import calibration_batches
        from efflab.training.technique_training import train_within

        batches = calibration_batches(context.task, self.calibration_examples)
        settings = self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return quantize_aware(model, context.task, batches, self.weight_bits, run=run, **settings)

        train_within(context, self.training, train, model)
        return Result(model)


def quantize_aware(
    module: nn.Module,
    task: Task,
    calibration_batches: Iterable[tuple[np.ndarray, ...]],
    weight_bits: Literal[8, 4] = 8,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train `module` in place under emulated rounding; afterwards its weights are on the integer grid. Return the cost.

    Convolutions and linear layers are emulated. training: keys of the section `training`, and of a run, such as `seed`. Raises
    RequestError if there are none, FloatingPointError if the loss stops being finite.
    """
    from efflab.training.cost import training_cost
    from efflab.training.technique_training import read_keywords
    from efflab.training.trainer import examples_seen, train

    settings, run = read_keywords(QuantizeAware, run, training)
    emulated = _emulate(module, weight_bits)
    try:
        _observe(module, calibration_batches)
        # emulated rounding asks the host to check its ranges, which a captured step cannot
        seconds = train(module, task, settings, run, replay=False)
    finally:
        _round_off(emulated)
    return run.spent(training_cost(module, task, examples_seen(task, settings), seconds, device=run.device))


def round_weight(weight: Tensor, bits: int) -> Tensor:
    """Return the weight on the symmetric grid of each output channel, -(2^(b-1)-1) to 2^(b-1)-1 steps.

    Gradients pass as if nothing were rounded (straight-through, Bengio et al. 2013).
    """
    import torch

    most = 2 ** (bits - 1) - 1
    scale = weight.detach().abs().flatten(1).amax(dim=1).clamp_min(1e-12) / most
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -most, most)


def _emulate(module: nn.Module, bits: int) -> list[nn.Module]:
    """Make layers round their weights and inputs; return them."""
    import torch
    from torch import nn
    from torch.nn.utils import parametrize

    from efflab.model_surgery.plain_layers import computes_as

    class Rounded(nn.Module):
        """A weight as integers see it."""

        def forward(self, weight: Tensor) -> Tensor:
            return round_weight(weight, bits)

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    layers: list[nn.Module] = [layer for layer in module.modules() if computes_as(layer, kinds)]
    if not layers:
        raise RequestError(
            "quantize_aware: the model has no convolution and no linear layer that computes what its type says"
        )
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Rounded())
        # buffers, so that an interrupted training goes on with the ranges it had
        layer.register_buffer("_input_low", torch.zeros(()))
        layer.register_buffer("_input_high", torch.zeros(()))
    return layers


def _observe(module: nn.Module, batches: Iterable[tuple[np.ndarray, ...]]) -> None:
    """Set the ranges of layer inputs to what is seen in `batches`; from then on layers round their inputs."""
    import torch

    layers = [layer for layer in module.modules() if hasattr(layer, "_input_low")]

    def see(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        layer._input_low.copy_(torch.minimum(layer._input_low, inputs[0].min()))
        layer._input_high.copy_(torch.maximum(layer._input_high, inputs[0].max()))

    handles = [layer.register_forward_pre_hook(see) for layer in layers]
    module.eval()
    with torch.no_grad():
        for batch in batches:
            module(*(torch.from_numpy(array.copy()) for array in batch))
    for layer, handle in zip(layers, handles, strict=True):
        handle.remove()
        layer.register_forward_pre_hook(_round_input)


def _round_input(layer: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Round a layer's input to 8 bits of its range, which follows what training sees; gradients stop where it is clipped."""
    import torch

    x = inputs[0]
    if layer.training:
        with torch.no_grad():
            layer._input_low.lerp_(x.detach().min().clamp(max=0.0), 1 - MEMORY)
            layer._input_high.lerp_(x.detach().max().clamp(min=0.0), 1 - MEMORY)
    low, high = layer._input_low, layer._input_high
    scale = ((high - low) / 255).clamp_min(1e-12)
    zero = (-low / scale).round().to(torch.int32)
    return (torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255), *inputs[1:])


def _round_off(layers: list[nn.Module]) -> None:
    """Leave the rounded weights in the layers, and nothing of the emulation."""
    from torch.nn.utils import parametrize

    for layer in layers:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        del layer._input_low, layer._input_high
        layer._forward_pre_hooks.clear()
