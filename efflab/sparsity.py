"""Which weights stay when single ones are set to zero: by magnitude or by chance, freely or two of every four."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Pattern = Literal["free", "2:4"]
Scope = Literal["layer", "global"]
Importance = Literal["magnitude", "random"]


def prunable_weights(module: nn.Module, spare_ends: bool) -> list[Tensor]:
    """Return the weights of convolutions and linear layers, without the first and the last if they are spared."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights: list[Tensor] = [layer.weight for layer in module.modules() if isinstance(layer, kinds)]
    return weights[1:-1] if spare_ends else weights


def scores(weights: list[Tensor], importance: Importance, seed: int) -> list[Tensor]:
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
