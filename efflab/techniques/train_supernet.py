"""Trains a network so that its first channels and blocks are networks, too (Yu & Huang 2019, arXiv 1903.05134)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result
from efflab.contracts.trains import Trains
from efflab.foundation.errors import RequestError
from efflab.records.cost import Cost

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from efflab.contracts.task import Task
    from efflab.contracts.trains import TrainingRun
    from efflab.model_surgery.adaptive.subnets import Subnet

Share = Annotated[float, Field(gt=0, le=1)]
Depth = Annotated[int, Field(ge=1, le=1000)]


class TrainSupernet(Trains):
    """Train one net whose sub-nets of several widths and depths share its weights; `cut_subnet` then takes them out.

    Every step trains the largest net on the targets, and the smallest and some random sub-nets on what the largest says of
    the same examples: the sandwich rule and in-place distillation (Yu & Huang 2019). It starts from the weights that the net
    has, the largest first as in once-for-all (Cai et al. 2020, arXiv 1908.09791). It claims nothing by itself, and pays
    when several sizes are wanted. Random sub-nets are on the ledger with their mean MACs. The last epoch is kept.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 10.0, "learning_rate": 0.05}
    tiny: ClassVar[dict[str, Any]] = {"widths": [0.5], "epochs": 1.0, "batch_size": 64}

    widths: Annotated[
        list[Share],
        Field(
            min_length=1,
            max_length=100,
            description="Widths of the sub-nets, as shares of the channels of every layer, besides the full width.",
        ),
    ] = [0.25, 0.5, 0.75]
    blocks: Annotated[
        list[Depth],
        Field(
            max_length=100,
            description="Numbers of blocks in each stage of shallower sub-nets; the model must name its `stages`, as "
            "ResNets do.",
        ),
    ] = []
    random_subnets: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="Number of random sub-nets that each step trains, besides the largest and the smallest.",
        ),
    ] = 2

    def apply(self, model: Any, context: Context) -> Result:
        """Train, going on from the checkpoint of an interrupted call if there is one."""
        from efflab.training.technique_training import train_within

        sizes, settings = (self.widths, self.blocks, self.random_subnets), self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return train_supernet(model, context.task, *sizes, run=run, **settings)

        train_within(context, self.training, train, model)
        return Result(model)

    def epochs_of_training(self) -> float:
        """Return the passes over the training split, a sub-net's by its share of the work, about its width squared."""
        shares = [width * width for width in self.widths]
        return self.training.epochs * (1 + min(shares) + self.random_subnets * sum(shares) / len(shares))


def train_supernet(
    module: torch.nn.Module,
    task: Task,
    widths: Sequence[float] = (0.25, 0.5, 0.75),
    blocks: Sequence[int] = (),
    random_subnets: int = 2,
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Train `module` and the sub-nets in it in place; return the cost, that of the sub-nets included.

    Sub-nets are all pairs of `widths`, and the full one, with `blocks`, and all of them. training: keys of the section
    `training`, and of a run, such as `seed`. Raises RequestError if there is no sub-net beside the whole net or the model
    does not give logits, FloatingPointError if the loss stops being finite.
    """
    from efflab.model_surgery.adaptive.subnets import run_subnet
    from efflab.training.cost import TRAINING_PASSES, macs_per_example, training_cost, training_device
    from efflab.training.technique_training import read_keywords
    from efflab.training.trainer import examples_seen, train

    settings, run = read_keywords(TrainSupernet, run, training)
    device, seed = run.device or training_device(), run.seed
    nets = subnets(module, task, widths, blocks)
    macs = [macs_per_example(net.shell, task) for net in nets]
    # the smallest comes first; the others are those that are drawn
    order = sorted(range(len(nets)), key=macs.__getitem__)
    nets, macs = [nets[index] for index in order], [macs[index] for index in order]
    drawn = min(random_subnets, len(nets) - 1)
    _check_logits(module, task)
    for net in nets:
        net.shell.train().to(device)

    def loss(inputs: tuple[Tensor, ...], outputs: Tensor, targets: Tensor) -> Tensor:
        teacher = _probabilities(outputs)
        parameters = dict(module.named_parameters())
        total = task.loss(outputs, targets)
        for net in (nets[0], *(nets[1 + index] for index in draw(targets, len(nets) - 1, drawn, seed))):
            total = total + cross_entropy(task.scored(run_subnet(net, parameters, *inputs)), teacher)
        return total

    seconds = train(module, task, settings, run, loss, replay=False)
    examples = examples_seen(task, settings)
    cost = training_cost(module, task, examples, seconds, device=device)
    beside = macs[0] + (drawn * sum(macs[1:]) / len(macs[1:]) if drawn else 0.0)
    cost.training_macs += TRAINING_PASSES * examples * beside
    return run.spent(cost)


def _check_logits(module: torch.nn.Module, task: Task) -> None:
    """Raise RequestError, before any training, for a model whose outputs the task cannot score."""
    import torch

    from efflab.contracts.examples import example_inputs

    with torch.no_grad():
        outputs = module.eval()(*example_inputs(task))
    try:
        task.scored(outputs)
    except RequestError as error:
        raise RequestError(f"train_supernet needs a model that gives logits (examples, classes): {error}") from error


def subnets(module: torch.nn.Module, task: Task, widths: Sequence[float], blocks: Sequence[int]) -> list[Subnet]:
    """Return all pairs of a width and a depth but the whole net; raise RequestError if there is none, or it cannot be cut."""
    from efflab.contracts.examples import example_inputs
    from efflab.model_surgery.adaptive.subnets import cut, subnet

    example = example_inputs(task)
    sizes = [
        (width, depth)
        for width in sorted({*widths, 1.0})
        for depth in (*sorted({*blocks}), None)
        if width < 1 or depth is not None
    ]
    if not sizes:
        raise RequestError("train_supernet has no sub-net beside the whole net; give a width below 1, or blocks")
    return [subnet(module, cut(module, example, *size, who="train_supernet")) for size in sizes]


def draw(targets: Tensor, choices: int, count: int, seed: int) -> list[int]:
    """Return `count` different numbers below `choices`, drawn anew for each batch.

    They depend on the batch's targets and the seed alone, so that a training that was interrupted draws as one that was not.
    """
    import numpy as np

    digest = zlib.crc32(targets.cpu().numpy().tobytes())
    chosen = np.random.default_rng([seed, digest]).choice(choices, count, replace=False) if count else ()
    return sorted(int(index) for index in chosen)


def cross_entropy(logits: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean cross-entropy of a sub-net's logits with the probabilities that the largest net gives."""
    from torch.nn import functional

    return functional.cross_entropy(logits.float(), teacher)


def _probabilities(outputs: Any) -> Tensor:
    import torch

    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        raise RequestError("train_supernet needs a model that gives logits (examples, classes)")
    return outputs.detach().float().softmax(dim=1)
