"""Which weights stay when single ones are set to zero: by magnitude or by chance, freely or two of every four."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from efflab.model_surgery.plain_layers import computes_as
from efflab.model_surgery.pruning.settings import Scope, WeightImportance

Pattern = Literal["free", "2:4"]


KEEPS_ZEROS = "efflab_keeps_zeros"  # attribute of a layer whose zeros a pruning step made: no training fills them again


def prunable_layers(module: nn.Module, spare_ends: bool) -> dict[str, nn.Module]:
    """Return the convolutions and linear layers by name, without the first and the last if they are spared.

    A layer that is all zeros is left out: it starts at zero and has yet to learn. A weight that several layers share
    stands once.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found: dict[str, Any] = {name: layer for name, layer in module.named_modules() if computes_as(layer, kinds)}
    unique = {id(layer.weight): name for name, layer in reversed(found.items())}
    names = [name for name in found if name in unique.values()]
    if spare_ends:
        names = names[1:-1]
    return {name: found[name] for name in names if bool((found[name].weight != 0).any())}


def keep_zeros(module: nn.Module, names: Iterable[str]) -> nn.Module:
    """Mark layers whose weights were pruned: trainings keep their zeros. Returns `module`."""
    for name in names:
        setattr(module.get_submodule(name), KEEPS_ZEROS, True)
    return module


def marked_layers(module: nn.Module) -> list[str]:
    """Return the names of the layers that pruning steps marked."""
    return [name for name, layer in module.named_modules() if getattr(layer, KEEPS_ZEROS, False)]


def pruned_weights(module: nn.Module) -> list[Tensor]:
    """Return the weights of the layers that pruning steps marked; while a rounding is emulated, those behind it."""
    found = []
    for name in marked_layers(module):
        layer: Any = module.get_submodule(name)
        hidden = getattr(layer, "parametrizations", None)
        weight = hidden.weight.original if hidden is not None and "weight" in hidden else getattr(layer, "weight", None)
        found += [weight] if isinstance(weight, Tensor) else []
    return found


def scores(weights: list[Tensor], importance: WeightImportance, seed: int) -> list[Tensor]:
    """Return how important each weight is; by chance, zeros stay the least important."""
    generator = torch.Generator().manual_seed(seed)
    if importance == "random":
        return [torch.rand(one.shape, generator=generator) * (one.detach() != 0) for one in weights]
    return [one.detach().abs().float() for one in weights]


def free_masks(ranked: list[Tensor], sparsity: float, scope: Scope) -> list[Tensor]:
    """Return which weights stay: all but the least, in each layer or over all; ties go by place, so the share is exact."""
    groups = [ranked] if scope == "global" else [[score] for score in ranked]
    masks: list[Tensor] = []
    for group in groups:
        flat = torch.cat([score.flatten() for score in group])
        mask = torch.ones(len(flat), dtype=torch.bool)
        mask[flat.argsort(stable=True)[: round(sparsity * len(flat))]] = False
        parts = torch.split(mask, [score.numel() for score in group])
        masks += [part.reshape(score.shape) for part, score in zip(parts, group, strict=True)]
    return masks


def two_of_four(score: Tensor) -> Tensor:
    """Return which weights stay: the two largest of every four neighbouring inputs, whose number 4 must divide."""
    rows = score.movedim(1, -1).reshape(-1, 4)
    mask = torch.zeros(rows.shape, dtype=torch.bool).scatter_(1, rows.topk(2, dim=1).indices, True)
    return mask.reshape(score.movedim(1, -1).shape).movedim(-1, 1)
