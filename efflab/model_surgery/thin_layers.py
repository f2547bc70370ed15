"""Two or three thin layers in place of one: their ranks, their work, and weights whose product is nearest to the layer's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import nn


class Ranks(NamedTuple):
    """How a layer is split: by SVD one rank; by Tucker the ranks of its inputs and of its outputs."""

    inner: int
    outer: int = 0  # 0: by SVD

    @property
    def parts(self) -> tuple[int, ...]:
        """The ranks as plain numbers."""
        return (self.inner, self.outer) if self.outer else (self.inner,)


def is_splittable(layer: nn.Module) -> bool:
    """Say whether a layer computes what its type says, and can be split."""
    from torch import nn

    from efflab.model_surgery.plain_layers import computes_as

    if computes_as(layer, (nn.Conv2d,)):
        conv: Any = layer
        return conv.groups == 1 and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return computes_as(layer, (nn.Linear,))


def singular_values(layer: Any, method: str) -> tuple[torch.Tensor, ...]:
    """Return squared singular values: of the matrix, or of the unfoldings along inputs and along outputs."""
    import torch

    weight = layer.weight.detach().float()
    kernel = weight.ndim == 4 and weight[0, 0].numel() > 1
    ways = (
        [weight.movedim(1, 0).flatten(1), weight.flatten(1)] if kernel and method == "tucker" else [weight.flatten(1)]
    )
    return tuple(torch.linalg.svdvals(way) ** 2 for way in ways)


def least_ranks(values: tuple[torch.Tensor, ...], energy: float, round_to: int) -> Ranks:
    """Return the least ranks that keep the energy."""
    least = (int((squares.cumsum(0) < energy * squares.sum()).sum()) + 1 for squares in values)
    rounded = [-(-rank // round_to) * round_to for rank in least]
    return Ranks(*(min(len(squares), rank) for squares, rank in zip(values, rounded, strict=True)))


def whole_macs(layer: Any) -> float:
    """Return the MACs of a layer at one place."""
    return float(layer.weight.numel())


def split_macs(layer: Any, ranks: Ranks) -> float:
    """Return the MACs of the split layer at one place of its output; a stride makes the first 1x1 dearer."""
    outer, kernel = layer.weight.shape[0], layer.weight[0].numel()
    if not ranks.outer:
        return float(ranks.inner * (kernel + outer))
    channels, area = layer.in_channels, kernel // layer.in_channels
    before = layer.stride[0] * layer.stride[1] * channels * ranks.inner
    return float(before + ranks.inner * area * ranks.outer + ranks.outer * outer)


def split_layer(layer: Any, ranks: Ranks, trained: bool = False) -> nn.Sequential:
    """Return the thinner layers; `trained`: with weights whose product is nearest to the layer's."""
    from torch import nn

    bias = layer.bias is not None
    if layer.weight.ndim == 4:
        settings: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        if ranks.outer:
            first: Any = nn.Conv2d(layer.in_channels, ranks.inner, 1, bias=False)
            core = [nn.Conv2d(ranks.inner, ranks.outer, layer.kernel_size, bias=False, **settings)]
        else:
            first, core = nn.Conv2d(layer.in_channels, ranks.inner, layer.kernel_size, bias=False, **settings), []
        last: Any = nn.Conv2d(ranks.outer or ranks.inner, layer.out_channels, 1, bias=bias)
    else:
        first, core = nn.Linear(layer.in_features, ranks.inner, bias=False), []
        last = nn.Linear(ranks.inner, layer.out_features, bias=bias)
    if trained:
        _fill(layer, ranks, first, core, last)
    return nn.Sequential(first, *core, last).to(layer.weight.dtype).train(layer.training)


def _fill(layer: Any, ranks: Ranks, first: Any, core: list[Any], last: Any) -> None:
    """Set the weights: singular vectors, with singular values shared evenly; for Tucker, bases and the core between them."""
    import torch

    weight = layer.weight.detach().float()
    with torch.no_grad():
        if ranks.outer:
            inner = torch.linalg.svd(weight.movedim(1, 0).flatten(1), full_matrices=False)[0][:, : ranks.inner]
            outer = torch.linalg.svd(weight.flatten(1), full_matrices=False)[0][:, : ranks.outer]
            first.weight.copy_(inner.T[:, :, None, None])
            core[0].weight.copy_(torch.einsum("oihw,ir,os->srhw", weight, inner, outer))
            last.weight.copy_(outer[:, :, None, None])
        else:
            left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
            root = values[: ranks.inner].sqrt()
            first.weight.copy_((root[:, None] * right[: ranks.inner]).reshape(first.weight.shape))
            last.weight.copy_((left[:, : ranks.inner] * root).reshape(last.weight.shape))
        if layer.bias is not None:
            last.bias.copy_(layer.bias)
