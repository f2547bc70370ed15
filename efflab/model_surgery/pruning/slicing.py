"""Changes layers in place: keeps some of their channels and drops the rest."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from efflab.model_surgery.plain_layers import computes_as
from efflab.model_surgery.same_outputs import same_outputs, slack_of

Structure = dict[str, dict[str, list[int]]]  # layer name -> {"out": kept outputs, "in": kept inputs}

SLICEABLE = (_ConvNd, nn.Linear, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
ACROSS_CHANNELS = (nn.LayerNorm, nn.GroupNorm)  # one channel's value depends on the others'


def keep_channels(layer: nn.Module, out: Sequence[int] | None = None, into: Sequence[int] | None = None) -> nn.Module:
    """Slice `layer` in place to the output channels `out` and the input channels `into` (None keeps all); return it.

    Convolutions (grouped and depthwise too), transposed convolutions, linear layers, batch / instance / layer / group
    norms and PReLU. Layers whose inputs are their outputs (norms, PReLU, depthwise) take either. In grouped
    convolutions every group must keep equally many. Raises ValueError for what cannot be sliced so, IndexError for a
    channel that is not there.
    """
    if isinstance(layer, _ConvNd):
        _keep_convolution(layer, out, into)
    elif isinstance(layer, nn.Linear):
        if out is not None:
            _slice(layer, ("weight", "bias"), out)
            layer.out_features = len(out)
        if into is not None:
            _slice(layer, ("weight",), into, dim=1)
            layer.in_features = len(into)
    elif isinstance(layer, SLICEABLE):
        _keep_channelwise(layer, out if out is not None else into)
    else:
        raise ValueError(f"channels of {type(layer).__name__} cannot be sliced")
    return layer


def keep_structure(module: nn.Module, structure: Structure) -> nn.Module:
    """Slice every layer that `structure` names, in place; return `module`."""
    for name, kept in structure.items():
        keep_channels(module.get_submodule(name), kept.get("out"), kept.get("in"))
    return module


def is_depthwise(layer: nn.Module) -> bool:
    """Say whether a convolution has one group per output channel, so that its inputs are its outputs."""
    return isinstance(layer, _ConvNd) and layer.groups == layer.out_channels == layer.in_channels and layer.groups > 1


def is_sliceable(layer: nn.Module) -> bool:
    """Say whether a layer's channels can be sliced: it computes what one of SLICEABLE computes, and not by a way of its own."""
    return computes_as(layer, SLICEABLE)


def channel_groups(layer: nn.Module) -> int:
    """Return into how many equal blocks a layer's channels fall that must stay equally large (1: no blocks)."""
    if isinstance(layer, _ConvNd) and not is_depthwise(layer):
        return layer.groups
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1


def _keep_convolution(layer: _ConvNd, out: Sequence[int] | None, into: Sequence[int] | None) -> None:
    transposed = isinstance(layer, _ConvTransposeNd)
    if is_depthwise(layer):
        kept = out if out is not None else into
        if kept is not None:
            _slice(layer, ("weight", "bias"), kept)
            layer.groups = layer.in_channels = layer.out_channels = len(kept)
        return
    if out is not None:
        kept = _within_groups(out, layer.out_channels, layer.groups) if transposed else out
        _check_groups(out, layer.out_channels, layer.groups)
        _slice(layer, ("weight",), kept, dim=1 if transposed else 0)
        _slice(layer, ("bias",), out)
        layer.out_channels = len(out)
    if into is not None:
        kept = into if transposed else _within_groups(into, layer.in_channels, layer.groups)
        _check_groups(into, layer.in_channels, layer.groups)
        _slice(layer, ("weight",), kept, dim=0 if transposed else 1)
        layer.in_channels = len(into)


def _keep_channelwise(layer: nn.Module, kept: Sequence[int] | None) -> None:
    if kept is None:
        return
    if isinstance(layer, _NormBase):
        _slice(layer, ("weight", "bias", "running_mean", "running_var"), kept)
        layer.num_features = len(kept)
    elif isinstance(layer, nn.LayerNorm):
        _slice(layer, ("weight", "bias"), kept, dim=-1)
        layer.normalized_shape = (*layer.normalized_shape[:-1], len(kept))
    elif isinstance(layer, nn.GroupNorm):
        _check_groups(kept, layer.num_channels, layer.num_groups)
        _slice(layer, ("weight", "bias"), kept)
        layer.num_channels = len(kept)
    elif isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
        _slice(layer, ("weight",), kept)
        layer.num_parameters = len(kept)


def _check_groups(kept: Sequence[int], channels: int, groups: int) -> None:
    size = channels // groups
    counts = [sum(index // size == group for index in kept) for group in range(groups)]
    if len(set(counts)) != 1:
        raise ValueError(f"the {groups} groups would keep {counts} channels; they must keep equally many")


def _within_groups(kept: Sequence[int], channels: int, groups: int) -> list[int]:
    """Translate kept channels into positions inside a group, the same for every group since its weights are shared."""
    size = channels // groups
    blocks = [[index % size for index in kept if index // size == group] for group in range(groups)]
    if any(block != blocks[0] for block in blocks):
        raise ValueError("every group of a grouped convolution must keep the same positions")
    return blocks[0]


def _slice(layer: nn.Module, names: Sequence[str], kept: Sequence[int], dim: int = 0) -> None:
    index = torch.as_tensor(list(kept), dtype=torch.long)
    for name in names:
        tensor: Any = getattr(layer, name, None)
        if tensor is None:
            continue
        sliced: Tensor = tensor.detach().index_select(dim, index.to(tensor.device)).contiguous()
        if isinstance(tensor, nn.Parameter):
            setattr(layer, name, nn.Parameter(sliced, requires_grad=tensor.requires_grad))
        else:
            setattr(layer, name, sliced)


def ignoring(module: nn.Module, structure: Structure) -> list[Any]:
    """Make the layers of `module` ignore the inputs that `structure` drops, by hooks; return their handles.

    A module that ignores them computes what the sliced one must compute.
    """
    handles = []
    for name, kept in structure.items():
        layer = module.get_submodule(name)
        if "in" in kept and isinstance(layer, _ConvNd | nn.Linear) and not is_depthwise(layer):
            handles.append(layer.register_forward_pre_hook(_mask_hook(layer, kept["in"])))
        elif isinstance(layer, ACROSS_CHANNELS):
            handles.append(layer.register_forward_hook(_norm_hook(layer, kept.get("out", kept.get("in", [])))))
    return handles


def _norm_hook(layer: nn.Module, kept: Sequence[int]) -> Any:
    """Return a hook that gives what the sliced norm gives for the channels that stay, and zeros for the others."""
    sliced = keep_channels(copy.deepcopy(layer), kept)
    axis = -1 if isinstance(layer, nn.LayerNorm) else 1

    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        index = torch.as_tensor(list(kept), dtype=torch.long)
        return torch.zeros_like(output).index_copy(axis, index, sliced(inputs[0].index_select(axis, index)))

    return hook


def same_as_ignoring(module: nn.Module, structure: Structure, inputs: tuple[Tensor, ...]) -> bool:
    """Say whether `module`, sliced to `structure`, runs and gives what it gives when it ignores the dropped channels.

    Norms over several channels ignore the dropped ones, too: they compute from the channels that stay, as the sliced ones do.
    """
    sliced, handles = copy.deepcopy(module), list[Any]()
    with torch.no_grad():
        try:
            outputs = keep_structure(sliced, structure)(*inputs)
            handles = ignoring(module, structure)
            wanted = module(*inputs)
        except Exception:  # the sliced layers do not fit each other; what they raise is theirs
            return False
        finally:
            for handle in handles:
                handle.remove()
    return same_outputs(outputs, wanted, slack_of(inputs[0].dtype))


def _mask_hook(layer: _ConvNd | nn.Linear, kept: Sequence[int]) -> Any:
    dim = -1 if isinstance(layer, nn.Linear) else -(layer.weight.ndim - 1)
    size = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels

    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        mask = torch.zeros(size, dtype=inputs[0].dtype)
        mask[list(kept)] = 1
        return (inputs[0] * mask.view(-1, *[1] * (-dim - 1)), *inputs[1:])

    return hook


def lowest_common_groups(layers: Sequence[nn.Module]) -> int:
    """Return the number of blocks into which channels shared by `layers` fall."""
    return math.lcm(*(channel_groups(layer) for layer in layers))
