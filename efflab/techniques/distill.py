"""Trains the model to give a teacher's probabilities (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result
from efflab.contracts.training_section import Teacher
from efflab.contracts.trains import Trains
from efflab.records.cost import Cost

if TYPE_CHECKING:
    import torch

    from efflab.contracts.task import Task
    from efflab.contracts.trains import TrainingRun

OFF = -1e4  # stands for a logit of -inf


class Distill(Trains):
    """Train the model on a teacher's softened probabilities beside the targets (Hinton et al. 2015).

    It moves quality only and saves no work by itself: it claims nothing, and pays after pruning or for a small dense
    model, more so with a strong teacher. The teachers' forward passes are on the ledger. The last epoch is kept.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "a teacher can win back only what is lost already",
        "prune_weights": "a teacher can win back only what is lost already",
        "low_rank": "a teacher can win back only what is lost already",
    }
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 5.0, "learning_rate": 0.02}
    tiny: ClassVar[dict[str, Any]] = {"epochs": 1.0, "batch_size": 64}

    # `baseline` is the dense model that this variant started from; else a card's name; a list is an ensemble
    teacher: Teacher = "baseline"
    temperature: Annotated[
        float,
        Field(
            gt=0,
            le=100,
            description="Number that divides the logits of model and teacher; larger means softer probabilities.",
        ),
    ] = 4.0
    weight: Annotated[
        float,
        Field(ge=0, le=1, description="Share of the loss that follows the teacher; the rest follows the targets."),
    ] = 0.9

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import load_teachers, train_within

        teachers, settings = load_teachers(self.teacher, context), self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return distill(model, teachers, context.task, self.temperature, self.weight, run=run, **settings)

        train_within(context, self.training, train, model, *teachers)
        return Result(model)

    def teachers(self) -> list[str]:
        """Return the teachers that are cards."""
        from efflab.training.technique_training import other_cards

        return other_cards(self.teacher)


def distill(
    module: torch.nn.Module,
    teachers: torch.nn.Module | Sequence[torch.nn.Module],
    task: Task,
    temperature: float = 4.0,
    weight: float = 0.9,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train `module` in place on the teachers' logits and the targets; return the cost, the teachers' work included.

    training: keys of the section `training`, and of a run, such as `seed`. Raises RequestError if teacher and model give
    different shapes, FloatingPointError if the loss stops being finite.
    """
    from torch import nn

    from efflab.training.technique_training import mean_logits, read_keywords, teach

    ensemble = [teachers] if isinstance(teachers, nn.Module) else list(teachers)

    def loss(inputs: tuple[torch.Tensor, ...], outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = mean_logits(ensemble, inputs, outputs, "distill", task)
        return weight * soft_loss(outputs, wanted, temperature) + (1 - weight) * task.loss(outputs, targets)

    settings, run = read_keywords(Distill, run, training)
    return teach(module, ensemble, task, settings, loss, run)


def soft_loss(logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T^2 x KL(teacher || model) of the probabilities at temperature T, mean over examples.

    T^2 keeps the gradient's size the same for every temperature (Hinton et al., section 2.1).
    """
    from torch.nn.functional import kl_div, log_softmax

    classes = logits.shape[-1]
    # classes that are switched off have the logit -inf, and 0 x -inf is no number
    model = log_softmax(logits.float().reshape(-1, classes).clamp(min=OFF) / temperature, dim=1)
    teacher = log_softmax(teacher_logits.float().reshape(-1, classes).clamp(min=OFF) / temperature, dim=1)
    return kl_div(model, teacher, reduction="batchmean", log_target=True) * temperature**2
