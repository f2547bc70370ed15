"""Adds exits after the stages of a model and trains their heads (Teerapittayanon et al. 2016, arXiv 1709.01686)."""

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
    from efflab.model_surgery.adaptive.early_exits import EarlyExits


class AddExits(Trains):
    """Add a head after every stage but the last and train them, with the body (BranchyNet 2016) or on it (Kaya et al. 2019).

    It takes models that name their `stages`, as efflab's ResNets do. Nobody leaves early, and nothing gets cheaper, until
    `choose_exits` opens the exits. Training the body too gives better exits, and may move what the last one answers. It helps
    where many examples are easy.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    before: ClassVar[tuple[str, ...]] = ("cast", "add_exits")  # SGD steps are lost to rounding in 16-bit weights
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "heads are as wide as the stages that they stand after",
        "finetune": "training afterwards moves the body away from its heads",
        "distill": "training afterwards moves the body away from its heads",
        "low_rank": "heads get used to what the split layers give",
    }
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 5.0, "learning_rate": 0.02}
    tiny: ClassVar[dict[str, Any]] = {"epochs": 1.0, "batch_size": 64}

    train_body: Annotated[
        bool,
        Field(
            description="Train the model's own layers together with the heads; `false` trains the heads only, so the "
            "last exit answers as before."
        ),
    ] = True
    hidden: Annotated[
        int,
        Field(
            ge=0,
            le=4096,
            description="Channels of a 3x3 convolution in each head; with 0 a head is a linear layer only.",
        ),
    ] = 16
    weight: Annotated[
        float,
        Field(
            gt=0,
            le=100,
            description="Weight of each head's loss; the last exit's loss has weight 1, or 0 without `train_body`.",
        ),
    ] = 0.5

    def apply(self, model: Any, context: Context) -> Result:
        """Add and train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import train_within

        module, settings = with_exits(model, context.task, self.hidden), self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return add_exits(module, context.task, self.train_body, self.weight, run=run, **settings)

        train_within(context, self.training, train, module)
        heads = [{"stage": name, **_sizes(head)} for name, head in zip(module.stages, module.heads, strict=True)]
        return Result(module, {"heads": heads})

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Put heads of the given sizes after the given stages."""
        from efflab.model_surgery.adaptive.early_exits import EarlyExits, ExitHead

        heads = [ExitHead(one["channels"], one["classes"], one["hidden"]) for one in structure["heads"]]
        return EarlyExits(module, [one["stage"] for one in structure["heads"]], heads)


def with_exits(module: nn.Module, task: Task, hidden: int = 16) -> EarlyExits:
    """Return `module` with an untrained head after each of its `stages` but the last.

    Raises RequestError if it does not name them, gives no logits, or its data does not pass from stage to stage.
    """
    import torch

    from efflab.contracts.examples import example_inputs
    from efflab.model_surgery.adaptive.early_exits import EarlyExits, ExitHead, in_a_row

    stages = getattr(module, "stages", ())
    if len(stages) < 2:
        raise RequestError(
            'add_exits: the model does not name its stages; give its class `stages = ("layer1", "layer2")`, the parts '
            "that run one after the other"
        )
    (x, *more), widths = example_inputs(task), dict[str, int]()
    handles = [
        module.get_submodule(name).register_forward_hook(
            lambda _stage, _inputs, features, name=name: widths.update({name: _width(features)})
        )
        for name in stages[:-1]
    ]
    with torch.no_grad():
        outputs = module.eval()(x, *more)
    for handle in handles:
        handle.remove()
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or not all(widths.values()):
        raise RequestError(
            "add_exits: the model must give logits of shape (N, classes), its stages (N, channels, H, W)"
        )
    if not in_a_row(module, stages[:-1], x):
        raise RequestError(
            "add_exits: the model's stages do not take all their data from the one before, so none may leave"
        )
    return EarlyExits(module, stages[:-1], [ExitHead(width, outputs.shape[1], hidden) for width in widths.values()])


def add_exits(
    module: EarlyExits,
    task: Task,
    train_body: bool = True,
    weight: float = 0.5,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train the heads of what `with_exits` gave, and its body unless `train_body` is false, in place; return the cost.

    training: keys of the section `training`, and of a run, such as `seed`. Raises FloatingPointError if the loss stops being
    finite.
    """
    from efflab.training.cost import macs_per_example, training_cost
    from efflab.training.technique_training import read_keywords
    from efflab.training.trainer import examples_seen, train

    settings, run = read_keywords(AddExits, run, training)

    def loss(_inputs: tuple[Tensor, ...], outputs: Tensor, targets: Tensor) -> Tensor:
        early = sum(weight * task.loss(logits, targets) for logits in module.logits)
        return early + task.loss(outputs, targets) if train_body else early  # type: ignore[return-value]

    frozen = [] if train_body else [one for one in module.body.parameters() if one.requires_grad]
    for one in frozen:
        one.requires_grad_(False)
    module.frozen = not train_body
    try:
        seconds = train(module, task, settings, run, loss)
    finally:
        module.frozen = False
        for one in frozen:
            one.requires_grad_(True)
    examples = examples_seen(task, settings)
    plain = macs_per_example(module, task)
    with module.all_open():
        cost = training_cost(module, task, examples, seconds, device=run.device)
    if not train_body:  # a frozen body is only passed forward
        cost.training_macs -= 2 * plain * examples
    return run.spent(cost)


def _width(features: Any) -> int:
    """Return the channels of a stage's output, 0 if it is no map of features."""
    return int(features.shape[1]) if getattr(features, "ndim", 0) == 4 else 0


def _sizes(head: Any) -> dict[str, int]:
    """Return what a head is built from."""
    from torch import nn

    conv = next((part for part in head.modules() if isinstance(part, nn.Conv2d)), None)
    return {
        "channels": conv.in_channels if conv else head.linear.in_features // 2,
        "classes": head.linear.out_features,
        "hidden": conv.out_channels if conv else 0,
    }
