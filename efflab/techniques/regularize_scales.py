"""Trains with a price on the scales of batch norms, so that channels sort into needed and not (Liu et al. 2017, 1708.06519)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result
from efflab.contracts.trains import Trains
from efflab.foundation.errors import RequestError
from efflab.records.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

    from efflab.contracts.task import Task
    from efflab.contracts.trains import TrainingRun


class RegularizeScales(Trains):
    """Train with an L1 price on batch-norm scales: preparation of a cut by `prune_channels` (Liu 2017, "network slimming").

    It saves nothing by itself; follow it with `prune_channels: {importance: bn_scale, scope: global}`, which then removes
    channels that the net has learned to do without, and with `finetune`.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 5.0, "learning_rate": 0.05}
    tiny: ClassVar[dict[str, Any]] = {"epochs": 1.0, "batch_size": 64}

    penalty: Annotated[
        float,
        Field(
            gt=0, le=1, description="Factor on the sum of the absolute batch-norm scales, which is added to the loss."
        ),
    ] = 1e-4

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import train_within

        settings = self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return regularize_scales(model, context.task, self.penalty, run=run, **settings)

        train_within(context, self.training, train, model)
        return Result(model)


def regularize_scales(
    module: nn.Module,
    task: Task,
    penalty: float = 1e-4,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train `module` in place with the price on its scales; return what it cost.

    training: keys of the section `training`, and of a run, such as `seed`. Raises RequestError if it has no batch norm with a
    scale, FloatingPointError if the loss stops being finite.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    from efflab.training.technique_training import read_keywords, teach

    scales = [part.weight for part in module.modules() if isinstance(part, _BatchNorm) and part.affine]
    if not scales:
        raise RequestError("regularize_scales: the model has no batch norm with a scale")

    def loss(_inputs: tuple[Tensor, ...], outputs: Tensor, targets: Tensor) -> Tensor:
        return task.loss(outputs, targets) + penalty * torch.stack([scale.abs().sum() for scale in scales]).sum()

    settings, run = read_keywords(RegularizeScales, run, training)
    return teach(module, (), task, settings, loss, run)
