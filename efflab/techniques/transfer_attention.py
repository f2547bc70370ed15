"""Trains the model to look where a teacher looks (Zagoruyko and Komodakis 2017, arXiv 1612.03928)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

Places = tuple[int, ...]  # shape of an attention map: height and width, or tokens


class TransferAttention(Trains):
    """Train on the task while the maps of where the features are strong follow the teacher's (Zagoruyko, Komodakis 2017).

    Maps are compared after the last layer of each size that both nets have under one name: a pruned net and its baseline,
    or two sizes of a family, whose widths may differ. It moves quality only; it helps most where the student is so thin
    that the teacher's probabilities alone are too hard to follow.
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

    teacher: Annotated[
        str,
        Field(description="Name of the teacher's card, or `baseline` for the dense model this variant started from."),
    ] = "baseline"
    weight: Annotated[
        float,
        Field(
            gt=0,
            le=1e6,
            description="Weight of half the mean squared distance between the attention maps; the task's own loss has "
            "weight 1.",
        ),
    ] = 1000.0

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import load_teachers, train_within

        (teacher,), settings = load_teachers(self.teacher, context), self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return transfer_attention(model, teacher, context.task, self.weight, run=run, **settings)

        train_within(context, self.training, train, model, teacher)
        return Result(model)

    def teachers(self) -> list[str]:
        """Return the teacher if it is a card."""
        from efflab.training.technique_training import other_cards

        return other_cards(self.teacher)


def transfer_attention(
    module: nn.Module,
    teacher: nn.Module,
    task: Task,
    weight: float = 1000.0,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train `module` in place; return the cost, the teacher's work included.

    training: keys of the section `training`, and of a run, such as `seed`. Raises RequestError if the two nets have no map
    in common, FloatingPointError if the loss stops being finite.
    """
    import torch

    from efflab.contracts.examples import example_inputs
    from efflab.training.technique_training import read_keywords, teach

    settings, run = read_keywords(TransferAttention, run, training)
    names = common_layers(module, teacher, example_inputs(task))
    own, wanted = dict[str, Any](), dict[str, Any]()
    handles = [*_record(module, names, own), *_record(teacher, names, wanted)]

    def loss(inputs: tuple[Tensor, ...], outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            teacher(*inputs)
        distance = sum(((attention_map(own[name]) - attention_map(wanted[name])) ** 2).mean() for name in names)
        return task.loss(outputs, targets) + weight / 2 * distance

    try:
        return teach(module, [teacher], task, settings, loss, run)
    finally:
        for handle in handles:
            handle.remove()


def attention_map(features: Tensor) -> Tensor:
    """Return the mean over channels of the squared features, of length 1 for each example.

    features: (examples, channels, height, width) or (examples, tokens, channels); gives (examples, places).
    """
    from torch.nn.functional import normalize

    strength = features.float().pow(2).mean(dim=1 if features.ndim == 4 else 2)
    return normalize(strength.flatten(1), dim=1)


def common_layers(module: nn.Module, teacher: nn.Module, inputs: Sequence[Tensor]) -> list[str]:
    """Return the last layer of each size of map that both nets have under one name; raise RequestError if there is none."""
    ours, theirs = _sizes(module, inputs), _sizes(teacher, inputs)
    last: dict[Places, str] = {size: name for name, size in ours.items() if theirs.get(name) == size}
    if not last:
        raise RequestError("transfer_attention: model and teacher have no layer of one name and one size of map")
    return list(last.values())


def _sizes(module: nn.Module, inputs: Sequence[Tensor]) -> dict[str, Places]:
    """Return the size of the map that each layer gives, in the order in which they run."""
    import torch

    seen: dict[str, Any] = {}
    handles = _record(module, [name for name, _ in module.named_modules() if name], seen)
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    sizes = {name: _places(features) for name, features in seen.items()}
    return {name: size for name, size in sizes.items() if size}


def _places(features: Any) -> Places:
    import torch

    if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
        return ()
    size = tuple(features.shape[2:]) if features.ndim == 4 else (features.shape[1],)
    return size if max(size) > 1 else ()


def _record(module: nn.Module, names: Sequence[str], into: dict[str, Any]) -> list[Any]:
    """Keep what the named layers give in `into`, in the order in which they run; return the hooks' handles."""

    def keep(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            into.pop(name, None)
            into[name] = output

        return hook

    return [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
