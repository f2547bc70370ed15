"""What steps that train share: going on after an interruption, the ledger, and teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.interface import Interface
from efflab.contracts.task import Task
from efflab.contracts.technique import Context
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.errors import Paused, RequestError
from efflab.records.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

    from efflab.training.step import Loss

BASELINE = "baseline"  # as a teacher: the dense model that a variant started from
CHECKPOINT = "training.safetensors"


def train_step(context: Context, train: Callable[..., Cost], *models: Any, **settings: Any) -> None:
    """Call `train` on the models and the task; it goes on from the checkpoint of an interrupted call if there is one.

    models: the one that is trained, then teachers, or lists of them. A training that pauses has its work on the ledger, too.
    """
    from efflab.training.cost import add_cost, training_cost

    checkpoint = context.folder / CHECKPOINT
    fixed: dict[str, Any] = {"optimizer": context.optimizer, "seed": context.seed, "report": context.report}
    try:
        cost = train(*models, context.task, checkpoint=checkpoint, **fixed, **settings)
    except Paused as pause:
        examples = pause.share * settings["epochs"] * len(context.task.split("train"))
        teachers = [one for several in models[1:] for one in (several if isinstance(several, list) else [several])]
        add_cost(context.cost, training_cost(models[0], context.task, examples, pause.seconds, teachers))
        raise
    add_cost(context.cost, cost)
    checkpoint.unlink(missing_ok=True)


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
    loss: Loss,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Cost:
    """Train `module` in place by `loss`, which looks at `teachers`; return the cost, the teachers' work included.

    Teachers are in evaluation mode, frozen, and where the training is. Raises FloatingPointError if the loss stops being
    finite.
    """
    from efflab.training.cost import training_cost, training_device
    from efflab.training.trainer import examples_seen, fit

    for teacher in teachers:
        teacher.eval().requires_grad_(False).to(training_device())
    seconds = fit(module, task, settings, seed, loss=loss, checkpoint=checkpoint, report=report)
    return training_cost(module, task, examples_seen(task, settings), seconds, [one.cpu() for one in teachers])


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
