"""Trains the changed model on (Han et al. 2015, arXiv 1506.02626: prune, then retrain)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.contracts.training_section import BatchSize, Bf16, Epochs, LearningRate, Warmup, WeightDecay
from efflab.records.cost import Cost

if TYPE_CHECKING:
    import torch

    from efflab.contracts.task import Task
    from efflab.contracts.training_section import Optimizer


class Finetune(Technique):
    """Train on with the task's loss to win back what an earlier step cost (Han et al. 2015); the last epoch is kept.

    It helps after pruning; a tenth of the baseline's epochs at a tenth of its learning rate is a good start. The optimizer
    is the one by which the baseline was trained, here and in every step that trains.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    random: ClassVar[bool] = True
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "training wins back what the removed channels cost (Han et al. 2015)",
        "prune_weights": "training wins back what the zeros cost, and keeps them",
        "prune_heads": "training wins back what the removed heads cost (Michel et al. 2019)",
        "low_rank": "training wins back what the dropped singular values cost (Denton et al. 2014)",
    }
    tiny: ClassVar[dict[str, Any]] = {"epochs": 1.0, "batch_size": 64}

    epochs: Epochs = 5.0
    learning_rate: LearningRate = 0.02
    batch_size: BatchSize = 128
    weight_decay: WeightDecay = 5e-4
    warmup: Warmup = 0.1
    bf16: Bf16 = False

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import train_step

        train_step(context, finetune, model, **self.model_dump())
        return Result(model)


def finetune(
    module: torch.nn.Module,
    task: Task,
    epochs: float = 5.0,
    learning_rate: float = 0.02,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    warmup: float = 0.1,
    bf16: bool = False,
    optimizer: Optimizer = "sgd",
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Cost:
    """Train `module` in place on the task's training split; return what it cost.

    Raises FloatingPointError if the loss stops being finite.
    """
    from efflab.contracts.training_section import TrainingSettings
    from efflab.training.cost import training_cost
    from efflab.training.trainer import examples_seen, fit

    settings = TrainingSettings(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        weight_decay=weight_decay,
        warmup=warmup,
        bf16=bf16,
        optimizer=optimizer,
    )
    seconds = fit(module, task, settings, seed, checkpoint=checkpoint, report=report)
    return training_cost(module, task, examples_seen(task, settings), seconds)
