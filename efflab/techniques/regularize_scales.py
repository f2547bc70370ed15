"""Trains with a price on the scales of batch norms, so that channels sort into needed and not (Liu et al. 2017, 1708.06519)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.contracts.training_section import BatchSize, Bf16, Epochs, LearningRate
from efflab.foundation.errors import RequestError
from efflab.records.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

    from efflab.contracts.task import Task
    from efflab.contracts.training_section import Optimizer


class RegularizeScales(Technique):
    """Train with an L1 price on batch-norm scales: preparation of a cut by `prune_channels` (Liu 2017, "network slimming").

    It saves nothing by itself; follow it with `prune_channels: {importance: bn_scale, scope: global}`, which then removes
    channels that the net has learned to do without, and with `finetune`.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    random: ClassVar[bool] = True
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    tiny: ClassVar[dict[str, Any]] = {"epochs": 1.0, "batch_size": 64}

    penalty: Annotated[
        float,
        Field(
            gt=0, le=1, description="Factor on the sum of the absolute batch-norm scales, which is added to the loss."
        ),
    ] = 1e-4
    epochs: Epochs = 5.0
    learning_rate: LearningRate = 0.05
    batch_size: BatchSize = 128
    bf16: Bf16 = False

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import train_step

        train_step(context, regularize_scales, model, **self.model_dump())
        return Result(model)


def regularize_scales(
    module: nn.Module,
    task: Task,
    penalty: float = 1e-4,
    epochs: float = 5.0,
    learning_rate: float = 0.05,
    batch_size: int = 128,
    bf16: bool = False,
    optimizer: Optimizer = "sgd",
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Cost:
    """Train `module` in place with the price on its scales; return what it cost.

    Raises RequestError if it has no batch norm with a scale, FloatingPointError if the loss stops being finite.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    from efflab.contracts.training_section import TrainingSettings
    from efflab.training.cost import training_cost
    from efflab.training.trainer import examples_seen, fit

    scales = [part.weight for part in module.modules() if isinstance(part, _BatchNorm) and part.affine]
    if not scales:
        raise RequestError("regularize_scales: the model has no batch norm with a scale")

    def loss(_inputs: tuple[Tensor, ...], outputs: Tensor, targets: Tensor) -> Tensor:
        return task.loss(outputs, targets) + penalty * torch.stack([scale.abs().sum() for scale in scales]).sum()

    settings = TrainingSettings(
        epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, bf16=bf16, optimizer=optimizer
    )
    seconds = fit(module, task, settings, seed, loss=loss, checkpoint=checkpoint, report=report)
    return training_cost(module, task, examples_seen(task, settings), seconds)
