"""Sets more and more weights to zero while it trains (Zhu and Gupta 2017, arXiv 1710.01878)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.contracts.trains import Trains
from efflab.foundation.errors import Paused, RequestError
from efflab.model_surgery.pruning.settings import Scope, WeightImportance
from efflab.records.cost import Cost

if TYPE_CHECKING:
    from torch import nn

    from efflab.contracts.task import Task
    from efflab.contracts.trains import TrainingRun


class PruneGradually(Trains):
    """Prune single weights in rounds, each followed by training: fast at first, then ever slower (Zhu and Gupta 2017).

    The share of zeros grows as 1 - (1 - t)^3; each round trains at the full learning rate again (Renda et al. 2020), and
    `epochs` are those of all rounds together. It keeps
    more quality than pruning at once from about 80 % zeros on, for the price of the training. Like `prune_weights` it lowers
    effective MACs only: most runtimes multiply by zeros.
    """

    version: ClassVar[int] = (
        2  # the layers that were pruned are noted, so that trainings keep their zeros and no others
    )
    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("effective_macs", "nonzero_params")
    before: ClassVar[tuple[str, ...]] = ("cast",)  # SGD steps are lost to rounding in 16-bit weights
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "removing channels afterwards changes the share of zeros",
        "low_rank": "splitting a layer afterwards fills its zeros again",
    }
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 4.0, "learning_rate": 0.02}
    tiny: ClassVar[dict[str, Any]] = {"sparsity": 0.5, "rounds": 2, "epochs": 1.0, "batch_size": 64}

    sparsity: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of the weights that are zero at the end, not counting the first and the last layer.",
        ),
    ] = 0.8
    rounds: Annotated[
        int, Field(ge=1, le=100, description="Number of rounds; each one sets more weights to zero and then trains.")
    ] = 4
    scope: Scope = "global"
    importance: WeightImportance = "magnitude"

    def apply(self, model: Any, context: Context) -> Result:
        """Prune and train; raise RequestError if no weight can be set to zero."""
        from efflab.model_surgery.pruning.weight_masks import marked_layers
        from efflab.training.technique_training import train_within

        own, settings = self.model_dump(exclude={"training"}), self.training.model_dump()

        def train(run: TrainingRun) -> Cost:
            return prune_gradually(model, context.task, **own, run=run, **settings)

        train_within(context, self.training, train, model)
        return Result(model, {"layers": marked_layers(model)})

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Mark the layers whose zeros were pruned."""
        from efflab.model_surgery.pruning.weight_masks import keep_zeros

        return keep_zeros(module, structure["layers"])

    def control(self) -> Technique | None:
        """Return the same with random weights."""
        return None if self.importance == "random" else self.model_copy(update={"importance": "random"})


def prune_gradually(
    module: nn.Module,
    task: Task,
    sparsity: float = 0.8,
    rounds: int = 4,
    scope: Scope = "global",
    importance: WeightImportance = "magnitude",
    *,
    run: TrainingRun | None = None,
    **training: Any,
) -> Cost:
    """Prune weights of convolutions and linear layers of `module` in place, ends spared; return what it cost.

    training: keys of the section `training`, and of a run, such as `seed`. With a checkpoint each finished round is kept, and
    each finished epoch of the round that is under way. Raises RequestError if no weight can be set to zero,
    FloatingPointError if the loss stops being finite, Paused where the run or `efflab.training.trainer.pause_at` asks for it.
    """
    import torch

    from efflab.artefacts.artefact import untied
    from efflab.model_surgery.pruning.weight_masks import free_masks, keep_zeros, prunable_layers, scores
    from efflab.training.checkpoint import write_progress
    from efflab.training.cost import training_cost
    from efflab.training.technique_training import read_keywords
    from efflab.training.trainer import asked_to_pause, examples_seen, train

    whole, run = read_keywords(PruneGradually, run, training)
    settings = whole.model_copy(update={"epochs": whole.epochs / rounds})
    checkpoint, seed = run.checkpoint, run.seed
    layers: dict[str, Any] = prunable_layers(module, spare_ends=True)
    if not layers:
        raise RequestError("prune_gradually: no weight can be set to zero under these settings")
    keep_zeros(module, layers)
    weights = [layer.weight for layer in layers.values()]
    begun, seconds = _resume(checkpoint, module)
    share_asked = asked_to_pause(checkpoint) if run.pause is None else run.pause  # parts of a round count
    look = math.inf if share_asked is None else max(share_asked * rounds, 1e-9)
    for number in range(begun, rounds):
        if number >= look:
            raise Paused(number / rounds, seconds)
        share = sparsity * (1 - (1 - (number + 1) / rounds) ** 3)
        masks = free_masks(scores(weights, importance, seed), share, scope)
        with torch.no_grad():
            for weight, mask in zip(weights, masks, strict=True):
                weight.mul_(mask)
        inner = _of_round(checkpoint, number) if checkpoint else None
        pause = look - number if look < number + 1 else math.inf
        try:
            of_round = replace(run, seed=seed * rounds + number, checkpoint=inner, pause=pause)
            seconds += train(module, task, settings, of_round)
        except Paused as paused:
            raise Paused((number + paused.share) / rounds, seconds + paused.seconds) from paused
        if checkpoint:
            write_progress(checkpoint, untied(module.state_dict()), number + 1, seconds)
    if checkpoint:
        for number in range(rounds):
            _of_round(checkpoint, number).unlink(missing_ok=True)
    examples = rounds * examples_seen(task, settings)
    return run.spent(training_cost(module, task, examples, seconds, device=run.device))


def _of_round(checkpoint: Path, number: int) -> Path:
    """Return where a round that is under way is kept: each has its own file, so that no round goes on from another's."""
    return checkpoint.with_name(f"{checkpoint.stem}-{number}{checkpoint.suffix}")


def _resume(path: Path | None, module: nn.Module) -> tuple[int, float]:
    """Return how many rounds are done and the seconds they took, after loading the weights they left."""
    from efflab.training.checkpoint import RANDOM, go_on_drawing, load_weights, read_progress

    found = read_progress(path)
    if found is None:
        return 0, 0.0
    tensors, done, seconds = found
    if not load_weights(module, {name: tensor for name, tensor in tensors.items() if name != RANDOM}):
        return 0, 0.0
    go_on_drawing(tensors)
    return done, seconds
