"""Removes whole attention heads (Michel et al. 2019, arXiv 1905.10650)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError
from efflab.model_surgery.pruning.settings import GradientExamples

if TYPE_CHECKING:
    import torch
    from torch import nn

    from efflab.model_surgery.pruning.attention_heads import AttentionHeads

Importance = Literal["taylor", "l2", "random"]
Kept = dict[str, list[int]]  # attention layer -> heads that stay


class PruneHeads(Technique):
    """Remove attention heads, least important first; queries, keys, values and outputs shrink with them (Michel 2019).

    It takes the attention of efflab's vision transformer and of Hugging Face's encoders (BERT, RoBERTa, ELECTRA, ViT,
    DistilBERT); see `attention_layers`. Follow it with `finetune`; `prune_channels` shrinks the perceptrons beside them.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("macs", "params", "artefact_bytes")
    tiny: ClassVar[dict[str, Any]] = {"ratio": 0.5, "calibration_examples": 64}

    ratio: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of the attention heads to remove: from each layer if `scope` is `local`, else from all "
            "layers together.",
        ),
    ] = 0.25
    importance: Annotated[
        Importance,
        Field(
            description="How heads are ranked: by change of the loss without them (`taylor`), weight norm (`l2`), or "
            "chance (`random`)."
        ),
    ] = "taylor"
    scope: Annotated[
        Literal["local", "global"],
        Field(
            description="Where heads are ranked: within each layer (`local`), or over all layers (`global`); every "
            "layer keeps at least one head."
        ),
    ] = "local"
    calibration_examples: GradientExamples = 512

    def apply(self, model: Any, context: Context) -> Result:
        """Prune; raise RequestError if the model has no such layer, or no head can go."""
        from efflab.contracts.examples import loss_gradients

        gradients = loss_gradients(context.task, self.calibration_examples) if self.importance == "taylor" else None
        return Result(model, prune_heads(model, self.ratio, self.importance, self.scope, context.seed, gradients))

    def draws(self) -> bool:
        """Return whether the heads are chosen by chance."""
        return self.importance == "random"

    def control(self) -> Technique | None:
        """Return the same pruning of random heads."""
        return None if self.importance == "random" else self.model_copy(update={"importance": "random"})

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Keep the heads that `structure` lists."""
        from efflab.model_surgery.pruning.attention_heads import attention_layers

        layers = attention_layers(module)
        for name, kept in structure.items():
            layers[name].keep(kept)
        return module


def prune_heads(
    module: nn.Module,
    ratio: float = 0.25,
    importance: Importance = "taylor",
    scope: Literal["local", "global"] = "local",
    seed: int = 0,
    gradients: Callable[[nn.Module], None] | None = None,
) -> Kept:
    """Remove heads of `module` in place and return the kept ones of each layer that lost some.

    gradients: runs the module forward and backward; needed for "taylor". Raises RequestError if nothing can be removed.
    """
    from efflab.model_surgery.pruning.attention_heads import attention_layers

    layers = attention_layers(module)
    if not layers:
        raise RequestError(
            "prune_heads: the model has no attention layer with heads, head_size, qkv and out, nor one of BERT's kind"
        )
    scores = _scores(module, layers, importance, seed, gradients)
    kept = _choose({name: score.tolist() for name, score in scores.items()}, ratio, scope)
    kept = {name: heads for name, heads in kept.items() if len(heads) < layers[name].count}
    if not kept:
        raise RequestError(f"prune_heads removes nothing: no layer has a head to spare at ratio {ratio:g}")
    for name, heads in kept.items():
        layers[name].keep(heads)
    return kept


def _scores(
    module: nn.Module, layers: dict[str, AttentionHeads], importance: Importance, seed: int, gradients: Any
) -> dict[str, torch.Tensor]:
    import torch

    if importance == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(part.count, generator=generator) for name, part in layers.items()}
    if importance == "l2":
        return {name: part.out.weight.detach().float().reshape(part.out.weight.shape[0], part.count, -1)
                .pow(2).sum(dim=(0, 2)).sqrt() for name, part in layers.items()}  # fmt: skip
    if gradients is None:
        raise RequestError("importance taylor needs gradients")
    sums = {name: torch.zeros(part.count) for name, part in layers.items()}

    def watch(name: str, heads: int) -> Callable[..., None]:
        def hook(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen = inputs[0]

            def add(gradient: torch.Tensor) -> None:
                # silencing a head is taking its part of the input away: the change is gradient x part, of each example
                change = (gradient * seen.detach()).float().reshape(len(seen), -1, heads, seen.shape[-1] // heads)
                sums[name] += change.sum(dim=(1, 3)).abs().sum(dim=0)

            seen.register_hook(add)  # type: ignore[no-untyped-call]

        return hook

    handles = [part.out.register_forward_pre_hook(watch(name, part.count)) for name, part in layers.items()]
    try:
        module.eval()
        gradients(module)
    finally:
        for handle in handles:
            handle.remove()
    module.zero_grad()
    # heads of different layers are comparable only when each layer's scores have length 1 (section 3.2)
    return {name: score / score.norm().clamp_min(1e-12) for name, score in sums.items()}


def _choose(scores: dict[str, list[float]], ratio: float, scope: str) -> Kept:
    """Return the heads of each layer that stay, in their order; the best one of a layer always does."""
    groups = [list(scores)] if scope == "global" else [[name] for name in scores]
    kept: Kept = {name: list(range(len(score))) for name, score in scores.items()}
    for group in groups:
        ranked = sorted((score, name, head) for name in group for head, score in enumerate(scores[name]))
        spare = round(ratio * len(ranked))
        for _, name, head in ranked:
            if spare and len(kept[name]) > 1:
                kept[name].remove(head)
                spare -= 1
    return kept
