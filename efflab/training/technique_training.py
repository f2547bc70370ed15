"""What steps that train share: going on after an interruption, the ledger, and teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from efflab.artefacts.interface import Interface
from efflab.contracts.task import Task
from efflab.contracts.technique import Context
from efflab.contracts.training_section import StepTraining, TrainingSettings
from efflab.contracts.trains import TrainingRun, Trains
from efflab.foundation.errors import Paused, RequestError
from efflab.records.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

    from efflab.training.step import Loss

BASELINE = "baseline"  # as a teacher: the dense model that a variant started from
CHECKPOINT = "training.safetensors"


def train_within(
    context: Context,
    training: StepTraining,
    train: Callable[[TrainingRun], Cost],
    module: nn.Module,
    *teachers: nn.Module,
) -> None:
    """Call `train` with the run of a step; it goes on from the checkpoint of an interrupted call if there is one.

    `train` puts what it cost on the run's ledger, which is the step's; what a training that pauses cost is put there here.
    """
    from efflab.training.cost import training_cost
    from efflab.training.trainer import examples_seen

    checkpoint = context.folder / CHECKPOINT
    given: dict[str, Any] = {"report": context.report, "cost": context.cost, "optimizer": context.optimizer}
    run = TrainingRun(context.seed, checkpoint, **given)
    try:
        train(run)
    except Paused as pause:
        whole = training.epochs * len(context.task.split("train"))
        if training.start_scale != 1:  # images that begin small cost less
            whole = examples_seen(context.task, training)
        run.spent(training_cost(module, context.task, pause.share * whole, pause.seconds, teachers))
        raise
    checkpoint.unlink(missing_ok=True)


def train_step(context: Context, train: Callable[..., Cost], *models: Any, **settings: Any) -> None:
    """Call `train` as earlier plug-ins have it: models, task, and every setting as a keyword of its own.

    models: the one that is trained, then teachers, or lists of them. New ones call `train_within`.
    """

    def told(run: TrainingRun) -> Cost:
        known = {"checkpoint": run.checkpoint, "optimizer": run.optimizer, "seed": run.seed, "report": run.report}
        return run.spent(train(*models, context.task, **known, **settings))

    teachers = [one for several in models[1:] for one in (several if isinstance(several, list) else [several])]
    train_within(context, StepTraining(epochs=settings.get("epochs", 1.0)), told, models[0], *teachers)


def read_keywords(
    schema: type[Trains], run: TrainingRun | None, given: Mapping[str, Any]
) -> tuple[TrainingSettings, TrainingRun]:
    """Return the settings and the run of the plain function of a technique, which takes either as single keywords.

    given: keys of the section `training`, as usual where they are left out, and of a run, such as `seed`.
    """
    of_run = {key: value for key, value in given.items() if key in TrainingRun.__dataclass_fields__}
    whole = replace(run or TrainingRun(), **of_run)
    settings = {key: value for key, value in given.items() if key not in of_run}
    return TrainingSettings(**{**schema.usual, **settings}, optimizer=whole.optimizer), whole


def named(teacher: str | Sequence[str]) -> list[str]:
    """Return the names of one teacher or of several."""
    return [teacher] if isinstance(teacher, str) else list(teacher)


def other_cards(teacher: str | Sequence[str]) -> list[str]:
    """Return the teachers that are cards of their own."""
    return [name for name in named(teacher) if name != BASELINE]


def load_teachers(teacher: str | Sequence[str], context: Context) -> list[nn.Module]:
    """Load the teachers by name."""
    return [context.baseline() if name == BASELINE else context.card(name) for name in named(teacher)]


def teach(
    module: nn.Module,
    teachers: Sequence[nn.Module],
    task: Task,
    settings: TrainingSettings,
    loss: Loss | None,
    run: TrainingRun | None = None,
    replay: bool = True,
    **of_run: Any,
) -> Cost:
    """Train `module` in place by `loss`, which looks at `teachers`; return the cost, the teachers' work included.

    Teachers, of which there may be none, are in evaluation mode, frozen, and where the training is. A run may be given by its
    parts, such as `seed`. Raises FloatingPointError if the loss stops being finite.
    """
    from efflab.training.cost import training_cost, training_device
    from efflab.training.trainer import examples_seen, train

    run = replace(run or TrainingRun(), **of_run)
    device = run.device or training_device()
    for teacher in teachers:
        teacher.eval().requires_grad_(False).to(device)
    seconds = train(module, task, settings, run, loss, replay)
    examples, there = examples_seen(task, settings), [one.cpu() for one in teachers]
    return run.spent(training_cost(module, task, examples, seconds, there, device))


def mean_logits(
    teachers: Sequence[nn.Module], inputs: Tensor | tuple[Tensor, ...], like: Any, who: str, task: Task | None = None
) -> Tensor:
    """Return the teachers' logits, averaged; raise RequestError unless they have the shape of `like`.

    task: says which of a teacher's outputs holds its logits, where it gives several.
    """
    import torch

    given = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
    try:
        with torch.no_grad():
            wanted = [teacher_output(teacher(*given), task) for teacher in teachers]
    except RequestError as error:
        raise RequestError(f"{who} needs a teacher and a model that both give logits of one shape: {error}") from error
    for one in wanted:
        if not isinstance(like, torch.Tensor) or not isinstance(one, torch.Tensor) or one.shape != like.shape:
            raise RequestError(f"{who} needs a teacher and a model that both give logits of one shape")
    return torch.stack([one.float() for one in wanted]).mean(dim=0)


def teacher_output(outputs: Any, task: Task | None) -> Any:
    """Return the scored output of a teacher, which may give others than the model that the task is for."""
    if task is None:
        return outputs
    try:
        return task.for_model(Interface()).scored(outputs)
    except RequestError:  # only the card of the model knows which one it is
        return task.scored(outputs)
