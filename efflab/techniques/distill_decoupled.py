"""Distils what a teacher says of the target apart from what it says of the others (Zhao et al. 2022, arXiv 2203.08679)."""

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

TEMPERATURE = 4.0  # in all of the paper's experiments on CIFAR (appendix A.2)


class DistillDecoupled(Trains):
    """Train on the teacher's certainty of the target and on its ranking of the other classes, each with a weight of its own.

    In plain distillation a certain teacher hides how it ranks the wrong classes; here `beta` brings that out (Zhao et al.
    2022). It moves quality only, for classification with more than two classes, and pays most with a strong teacher.
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

    teacher: Teacher = "baseline"
    alpha: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Weight of the loss for the target class against all others; the task's own loss has weight 1.",
        ),
    ] = 1.0
    beta: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Weight of the loss for the probabilities among the other classes; the task's own loss has "
            "weight 1.",
        ),
    ] = 8.0

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import load_teachers, train_within

        teachers, settings = load_teachers(self.teacher, context), self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return distill_decoupled(model, teachers, context.task, self.alpha, self.beta, run=run, **settings)

        train_within(context, self.training, train, model, *teachers)
        return Result(model)

    def teachers(self) -> list[str]:
        """Return the teachers that are cards."""
        from efflab.training.technique_training import other_cards

        return other_cards(self.teacher)


def distill_decoupled(
    module: torch.nn.Module,
    teachers: Sequence[torch.nn.Module],
    task: Task,
    alpha: float = 1.0,
    beta: float = 8.0,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train `module` in place; return the cost, the teachers' work included.

    training: keys of the section `training`, and of a run, such as `seed`. Raises RequestError if teacher and model give
    different shapes, FloatingPointError if the loss stops being finite.
    """
    from efflab.training.technique_training import mean_logits, read_keywords, teach

    def loss(inputs: tuple[torch.Tensor, ...], outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = mean_logits(teachers, inputs, outputs, "distill_decoupled", task)
        target, others = decoupled_losses(outputs, wanted, targets)
        return task.loss(outputs, targets) + alpha * target + beta * others

    settings, run = read_keywords(DistillDecoupled, run, training)
    return teach(module, teachers, task, settings, loss, run)


def decoupled_losses(
    logits: torch.Tensor, teacher_logits: torch.Tensor, targets: torch.Tensor, temperature: float = TEMPERATURE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return T^2 x KL(teacher || model) of target against the rest, and among the rest, means over examples.

    logits: (examples, classes); targets: (examples,) class numbers (Zhao et al., equations 5 to 7).
    """
    import torch
    from torch.nn.functional import kl_div, log_softmax, one_hot

    is_target = one_hot(targets, logits.shape[-1]).bool()
    parts = []
    for given in (logits, teacher_logits):
        one = given.clamp(min=-1e4)  # classes that are switched off have the logit -inf
        all_log = log_softmax(one.float() / temperature, dim=1)
        rest = all_log.masked_fill(is_target, float("-inf")).logsumexp(dim=1)
        binary = torch.stack([all_log.gather(1, targets[:, None])[:, 0], rest], dim=1)
        # a large constant rather than minus infinity: KL takes 0 x log 0 from it without becoming undefined
        among = log_softmax(one.float().masked_fill(is_target, -1e4) / temperature, dim=1)
        parts.append((binary, among))
    (model_binary, model_among), (teacher_binary, teacher_among) = parts
    scale = temperature**2
    target = kl_div(model_binary, teacher_binary, reduction="batchmean", log_target=True) * scale
    others = kl_div(model_among, teacher_among, reduction="batchmean", log_target=True) * scale
    return target, others
