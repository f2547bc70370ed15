"""Replaces layers by two thinner ones by singular values (Denton et al. 2014, arXiv 1404.0736; Zhang et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.errors import RequestError
from efflab.technique import Context, Form, Result, Technique

if TYPE_CHECKING:
    from torch import nn


class LowRank(Technique):
    """Split a layer into one that makes `rank` features and a 1x1 one that mixes them, by SVD (Zhang et al. 2016).

    Ranks keep a share of each layer's energy (sum of squared singular values); a layer stays as it is where splitting
    would not save MACs. It helps wide layers; follow it with `finetune`.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("macs", "params", "artefact_bytes")
    tiny: ClassVar[dict[str, Any]] = {"energy": 0.6}

    energy: Annotated[float, Field(gt=0, lt=1)] = 0.9
    round_to: Annotated[int, Field(ge=1, le=256)] = 1  # ranks are multiples of it, as far as they still save

    def apply(self, model: Any, context: Context) -> Result:
        """Split; raise RequestError if no layer saves anything."""
        return Result(model, low_rank(model, self.energy, self.round_to))

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Split the layers that `structure` names to its ranks; their weights are loaded afterwards."""
        for name, rank in structure.items():
            _replace(module, name, _pair(module.get_submodule(name), rank))
        return module


def low_rank(module: nn.Module, energy: float = 0.9, round_to: int = 1) -> dict[str, int]:
    """Split layers of `module` in place; return the rank of each that was split. Raises RequestError if none was.

    Linear layers and ungrouped two-dimensional convolutions with zero padding are split.
    """
    ranks: dict[str, int] = {}
    for name, layer in list(module.named_modules()):
        if name and _splittable(layer):
            rank = _rank(layer, energy, round_to)
            if rank < _break_even(layer):
                _replace(module, name, _pair(layer, rank, trained=True))
                ranks[name] = rank
    if not ranks:
        raise RequestError(f"low_rank: no layer saves MACs at an energy of {energy:g}; keep less of it")
    return ranks


def _splittable(layer: nn.Module) -> bool:
    from torch import nn

    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return type(layer) is nn.Linear


def _rank(layer: Any, energy: float, round_to: int) -> int:
    """Return the least rank that keeps the energy."""
    import torch

    squares = torch.linalg.svdvals(layer.weight.detach().float().flatten(1)) ** 2
    kept = int((squares.cumsum(0) < energy * squares.sum()).sum()) + 1
    return min(len(squares), -(-kept // round_to) * round_to)


def _break_even(layer: Any) -> float:
    """Return the rank at which both layers take as many MACs as the one: inner x outer / (inner + outer)."""
    outer = layer.weight.shape[0]
    inner = layer.weight[0].numel()
    return float(inner * outer / (inner + outer))


def _pair(layer: Any, rank: int, trained: bool = False) -> nn.Sequential:
    """Return the two layers; `trained`: with weights whose product is the layer's, singular values shared evenly."""
    import torch
    from torch import nn

    bias = layer.bias is not None
    if layer.weight.ndim == 4:
        settings: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        first: Any = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, bias=False, **settings)
        second: Any = nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
    else:
        first, second = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=bias)
    if trained:
        left, values, right = torch.linalg.svd(layer.weight.detach().float().flatten(1), full_matrices=False)
        root = values[:rank].sqrt()
        with torch.no_grad():
            first.weight.copy_((root[:, None] * right[:rank]).reshape(first.weight.shape))
            second.weight.copy_((left[:, :rank] * root).reshape(second.weight.shape))
            if bias:
                second.bias.copy_(layer.bias)
    dtype = layer.weight.dtype
    return nn.Sequential(first, second).to(dtype).train(layer.training)


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, new)
