"""Low-rank adapters: small trained matrices beside frozen ones (LoRA: Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

SCALE = 2.0  # alpha / rank, as most published adapters have it


class LowRankSum(nn.Module):
    """A frozen weight plus the product of two narrow matrices, the second of which begins at zero."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that is computed with."""
        return weight + SCALE * (self.up @ self.down)


def add_adapters(module: nn.Module, rank: int, head: tuple[str, ...]) -> None:
    """Freeze `module` in place and put adapters beside its linear layers; the layers of `head` stay trainable whole."""
    module.requires_grad_(False)
    for name, layer in list(module.named_modules()):
        if name.startswith(head):
            layer.requires_grad_(True)
        elif isinstance(layer, nn.Linear):
            adapter = LowRankSum(layer.weight, min(rank, *layer.weight.shape))
            parametrize.register_parametrization(layer, "weight", adapter)


def merge_adapters(module: nn.Module) -> None:
    """Put each adapter's product into the weight beside it, in place: the model has its plain layers again."""
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    module.requires_grad_(True)
