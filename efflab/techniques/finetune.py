"""Trains the changed model on (Han et al. 2015, arXiv 1506.02626: prune, then retrain)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result
from efflab.contracts.trains import Trains
from efflab.records.cost import Cost

if TYPE_CHECKING:
    import torch

    from efflab.contracts.task import Task
    from efflab.contracts.trains import TrainingRun


class Finetune(Trains):
    """Train on with the task's loss to win back what an earlier step cost (Han et al. 2015); the last epoch is kept.

    It helps after pruning; a tenth of the baseline's epochs at a tenth of its learning rate is a good start. The optimizer
    is the one by which the baseline was trained, here and in every step that trains.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    supports: ClassVar[bool] = True
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "training wins back what the removed channels cost (Han et al. 2015)",
        "prune_weights": "training wins back what the zeros cost, and keeps them",
        "prune_heads": "training wins back what the removed heads cost (Michel et al. 2019)",
        "low_rank": "training wins back what the dropped singular values cost (Denton et al. 2014)",
    }
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 5.0, "learning_rate": 0.02}
    tiny: ClassVar[dict[str, Any]] = {"epochs": 1.0, "batch_size": 64}

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import train_within

        settings = self.training.model_dump()
        train_within(context, self.training, lambda run: finetune(model, context.task, run=run, **settings), model)
        return Result(model)


def finetune(
    module: torch.nn.Module,
    task: Task,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train `module` in place on the task's training split; return what it cost.

    training: keys of the section `training`, and of a run, such as `seed`. Raises FloatingPointError if the loss stops being
    finite.
    """
    from efflab.training.technique_training import read_keywords, teach

    settings, run = read_keywords(Finetune, run, training)
    return teach(module, (), task, settings, None, run)
