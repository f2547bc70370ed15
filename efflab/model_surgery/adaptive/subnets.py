"""Sub-nets of a network: its first channels and its first blocks, as modules and as slices of the large one's weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from efflab.contracts.examples import like_parameters
from efflab.foundation.errors import RequestError
from efflab.model_surgery.pruning.dependency_groups import Root, drop, graph_of, groups_of, removable, root_of
from efflab.model_surgery.pruning.slicing import Structure, keep_structure, lowest_common_groups, same_as_ignoring

Where = tuple[slice, ...] | Tensor  # of a large tensor: a slice of every axis, or positions in it when it is laid flat


class Subnet(NamedTuple):
    """A sub-net without weights of its own: the module that computes it, and where its parameters lie in the large net's."""

    shell: nn.Module
    where: dict[str, Where]


def cut(
    module: nn.Module,
    example: Sequence[Tensor],
    width: float = 1.0,
    blocks: int | None = None,
    who: str = "cut_subnet",
) -> dict[str, Any]:
    """Return, as plain JSON data, what a sub-net keeps of `module`, which stays as it is.

    It keeps the first round(width x C) channels, at least one, of every group of C coupled channels, inputs and outputs of
    the network spared (Yu et al. 2019, arXiv 1812.08928), and the first `blocks` blocks of each stage, all if None (Cai et
    al. 2020, arXiv 1908.09791); for depth the module's `stages` names sequences of blocks. example: inputs of one small
    batch. Raises RequestError, in the name of `who`, if there is nothing to cut or the module cannot be cut so.
    """
    inputs = tuple(like_parameters(one, module) for one in example)
    small = copy.deepcopy(module).eval()
    structure: dict[str, Any] = {}
    if blocks is not None:
        structure["blocks"] = _shorter(small, blocks, who)
        _keep_blocks(small, structure["blocks"])
        _check_depth(module, small, inputs, who)
    if width < 1:
        structure["channels"] = _narrower(small, inputs, width, who)
    if not any(structure.values()):
        raise RequestError(
            f"{who} has nothing to cut at width {width:g}{_depth(blocks)}: this model is as small already"
        )
    return structure


def keep_subnet(module: nn.Module, structure: dict[str, Any]) -> nn.Module:
    """Cut `module` in place to a structure that `cut` gave; return it."""
    _keep_blocks(module, structure.get("blocks", {}))
    return keep_structure(module, structure.get("channels", {}))


def subnet(module: nn.Module, structure: dict[str, Any]) -> Subnet:
    """Return the sub-net of a structure that `cut` gave; its parameters are to be taken from those of `module`."""
    numbered = copy.deepcopy(module).double()  # whole numbers are exact in it up to 2**53
    large = {name: parameter.shape for name, parameter in numbered.named_parameters()}
    with torch.no_grad():
        for parameter in numbered.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape))
    positions = dict(keep_subnet(numbered, structure).named_parameters())
    where = {name: _where(part.detach().long(), large[name]) for name, part in positions.items()}
    return Subnet(keep_subnet(copy.deepcopy(module), structure), where)


def take(large: Tensor, where: Where) -> Tensor:
    """Return a sub-net's part of a large tensor; gradients flow back to that part."""
    if isinstance(where, Tensor):
        return large.reshape(-1)[where.to(large.device)]
    return large[where]


def run_subnet(one: Subnet, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Any:
    """Return the outputs of a sub-net that computes with its part of the large net's parameters."""
    own = {name: take(parameters[name], where) for name, where in one.where.items()}
    return torch.func.functional_call(one.shell, own, inputs)


def _where(positions: Tensor, large: torch.Size) -> Where:
    first = tuple(slice(0, size) for size in positions.shape)
    everything = torch.arange(math.prod(large)).view(large)
    return first if torch.equal(everything[first], positions) else positions


def _shorter(module: nn.Module, blocks: int, who: str) -> dict[str, int]:
    """Return the stages that have more than `blocks` blocks, with the number to keep."""
    stages = [name for name in getattr(module, "stages", ()) if isinstance(getattr(module, name, None), nn.Sequential)]
    if not stages:
        raise RequestError(f"{who} cannot cut blocks: the model names no `stages` of blocks; leave `blocks` out")
    longest = max(len(module.get_submodule(name)) for name in stages)  # type: ignore[arg-type]
    if blocks >= longest:
        raise RequestError(f"{who} cannot keep {blocks} blocks a stage of a model that has {longest}; ask for fewer")
    return {name: blocks for name in stages if len(module.get_submodule(name)) > blocks}  # type: ignore[arg-type]


def _keep_blocks(module: nn.Module, blocks: dict[str, int]) -> None:
    for name, count in blocks.items():
        stage: Any = module.get_submodule(name)
        module.set_submodule(name, stage[:count])


def _check_depth(module: nn.Module, small: nn.Module, inputs: tuple[Tensor, ...], who: str) -> None:
    was = module.training
    try:
        with torch.no_grad():
            wanted, found = module.eval()(*inputs), small(*inputs)
    except Exception as error:  # the blocks that stay do not fit each other; what they raise is theirs
        raise RequestError(f"{who} cannot cut blocks: what is left does not run ({type(error).__name__})") from error
    finally:
        module.train(was)
    shapes = [[leaf.shape for leaf in torch.utils._pytree.tree_leaves(one)] for one in (wanted, found)]
    if shapes[0] != shapes[1]:
        raise RequestError(f"{who} cannot cut blocks: the outputs would have other shapes")


def _narrower(module: nn.Module, inputs: tuple[Tensor, ...], width: float, who: str) -> Structure:
    roots = removable(module, inputs, who)
    structure = _sound(module, inputs, width, roots)
    if structure is None:
        # DepGraph misread something; find out which groups it got right, one by one
        roots = [root for root in roots if _sound(module, inputs, width, [root])]
        structure = _sound(module, inputs, width, roots)
    if structure is None:
        raise RequestError(f"{who} cannot tell which channels of this model belong together")
    if not structure:
        raise RequestError(f"{who} has no channels to cut at width {width:g} in this model; ask for less")
    return structure


def _sound(module: nn.Module, inputs: tuple[Tensor, ...], width: float, roots: list[Root]) -> Structure | None:
    """Return what stays when these groups are narrowed; None unless that computes what ignoring the others computes."""
    try:
        structure = _first_channels(copy.deepcopy(module), inputs, width, roots)
    except (IndexError, RuntimeError):
        return None  # torch-pruning stumbles over its own reading of the network
    return structure if not structure or same_as_ignoring(module, structure, inputs) else None


def _first_channels(module: nn.Module, inputs: tuple[Tensor, ...], width: float, roots: list[Root]) -> Structure:
    graph = graph_of(module, inputs)
    names = {layer: name for name, layer in module.named_modules()}
    drops: dict[Root, list[int]] = {}
    for group in groups_of(graph):
        root, channels = root_of(graph, group, names), len(group[0].idxs)
        parts = lowest_common_groups([dep.target.module for dep, _ in group if dep.target.module in names])
        if root in roots and channels % parts == 0:
            size = channels // parts
            kept = max(1, int(width * size + 0.5 + 1e-9))
            drops[root] = [part * size + position for part in range(parts) for position in range(kept, size)]
    structure: Structure = {}
    for root, dropped in drops.items():
        if dropped:
            drop(graph, root, dropped, names, structure)
    return structure


def _depth(blocks: int | None) -> str:
    return "" if blocks is None else f" and {blocks} blocks a stage"
