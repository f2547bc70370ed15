"""Sets single weights to zero by magnitude (Han et al. 2015, arXiv 1506.02626), freely or two of every four (2:4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError
from efflab.model_surgery.pruning.settings import Scope, WeightImportance

if TYPE_CHECKING:
    from torch import nn


class PruneWeights(Technique):
    """Set the weights of least magnitude to zero (Han et al. 2015); `finetune` and `distill` keep what is zero at zero.

    It lowers effective MACs only: a runtime that multiplies by zeros like by other numbers is not faster, and most do.
    `2:4` keeps two of every four neighbouring inputs, which sparse tensor cores skip (Mishra et al. 2021).
    """

    version: ClassVar[int] = (
        2  # the layers that were pruned are noted, so that trainings keep their zeros and no others
    )
    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("effective_macs", "nonzero_params")
    before: ClassVar[tuple[str, ...]] = ("prune_weights",)
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "removing channels afterwards breaks up the fours of 2:4 and changes the share of zeros",
        "low_rank": "splitting a layer afterwards fills its zeros again",
    }
    tiny: ClassVar[dict[str, Any]] = {"sparsity": 0.5}

    sparsity: Annotated[
        float,
        Field(gt=0, lt=1, description="Share of the weights to set to zero; with pattern `2:4` it is always 0.5."),
    ] = 0.5
    pattern: Annotated[
        Literal["free", "2:4"],
        Field(
            description="Where zeros may be: anywhere (`free`), or at two of every four neighbouring inputs (`2:4`)."
        ),
    ] = "free"
    scope: Scope = "global"
    importance: WeightImportance = "magnitude"
    spare_ends: Annotated[
        bool, Field(description="Leave the first and the last layer unchanged; they have few weights and matter most.")
    ] = True

    @model_validator(mode="after")
    def _half_is_half(self) -> Self:
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError("pattern 2:4 is a sparsity of one half; drop sparsity, or take pattern free")
        return self

    def apply(self, model: Any, context: Context) -> Result:
        """Prune; raise RequestError if no weight can be set to zero under these settings."""
        from efflab.model_surgery.pruning.weight_masks import marked_layers

        prune_weights(model, **self.model_dump(), seed=context.seed)
        return Result(model, {"layers": marked_layers(model)})

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Mark the layers whose zeros were pruned."""
        from efflab.model_surgery.pruning.weight_masks import keep_zeros

        return keep_zeros(module, structure["layers"])

    def draws(self) -> bool:
        """Return whether the weights are chosen by chance."""
        return self.importance == "random"

    def control(self) -> Technique | None:
        """Return the same pruning of random weights."""
        return None if self.importance == "random" else self.model_copy(update={"importance": "random"})


def prune_weights(
    module: nn.Module,
    sparsity: float = 0.5,
    pattern: Literal["free", "2:4"] = "free",
    scope: Scope = "global",
    importance: WeightImportance = "magnitude",
    spare_ends: bool = True,
    seed: int = 0,
) -> float:
    """Set weights of convolutions and linear layers to zero in place, and return the share of theirs that is zero.

    The pruned layers are marked (see `weight_masks.keep_zeros`). Layers that are all zeros are left alone: they start at
    zero and have yet to learn. Raises RequestError if no layer can be pruned so.
    """
    import torch

    from efflab.model_surgery.plain_layers import left_alone
    from efflab.model_surgery.pruning.weight_masks import free_masks, keep_zeros, prunable_layers, scores, two_of_four

    layers: dict[str, Any] = prunable_layers(module, spare_ends)
    weights = [layer.weight for layer in layers.values()]
    ranked = scores(weights, importance, seed)
    if pattern == "2:4":
        masks = [two_of_four(score) if score.shape[1] % 4 == 0 else None for score in ranked]
    else:
        masks = [*free_masks(ranked, sparsity, scope)] if weights else []
    pruned = {name: mask for name, mask in zip(layers, masks, strict=True) if mask is not None}
    if not any(bool((~mask & (layers[name].weight != 0)).any()) for name, mask in pruned.items()):
        raise RequestError(f"prune_weights: no weight can be set to zero under these settings{left_alone(module)}")
    with torch.no_grad():
        for name, mask in pruned.items():
            layers[name].weight.mul_(mask)
    keep_zeros(module, pruned)
    return float(sum(int((one == 0).sum()) for one in weights) / max(1, sum(one.numel() for one in weights)))
