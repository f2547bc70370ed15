"""Which layers' channels belong together: groups that can only be sliced alike (Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from efflab.artefacts.interface import leaves
from efflab.foundation.errors import RequestError
from efflab.foundation.step_errors import reason
from efflab.model_surgery.pruning.slicing import Structure, is_sliceable

Root = tuple[str, bool]  # a group of coupled channels: name of one of its layers, and whether by its outputs


def graph_of(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Return torch-pruning's dependency graph of `module`, traced on the inputs of one small batch."""
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parameters outside layers, which we never prune
        return torch_pruning.DependencyGraph().build_dependency(
            module, example_inputs=inputs, output_transform=_traced, verbose=False
        )


def _traced(outputs: Any) -> list[Tensor]:
    """Return the outputs that gradients flow from: others, and what is None, tell nothing of the channels behind them."""
    return [one for one in leaves(outputs) if isinstance(one, Tensor) and one.requires_grad]


def groups_of(graph: Any) -> list[Any]:
    """List the groups of coupled channels around convolutions and linear layers."""
    kinds = [torch.nn.modules.conv._ConvNd, torch.nn.Linear]
    return list(graph.get_all_groups(root_module_types=kinds))


def root_of(graph: Any, group: Any, names: dict[Any, str]) -> Root:
    """Return the name that a group keeps in every trace of one network."""
    return names[group[0].dep.target.module], bool(graph.is_out_channel_pruning_fn(group[0].dep.handler))


def removable(module: nn.Module, inputs: tuple[Tensor, ...], who: str) -> list[Root]:
    """List the groups whose layers we can slice and whose channels some layer consumes (else they are outputs).

    Raises RequestError, in the name of the technique `who`, for a module that cannot be traced.
    """
    try:
        graph = graph_of(copy.deepcopy(module), inputs)
    except Exception as error:
        raise RequestError(f"{who} cannot trace this model{reason(error, module)}") from error
    names = {layer: name for name, layer in graph.model.named_modules()}
    roots = []
    for group in groups_of(graph):
        deps = [dep for dep, _ in group]
        layers = [dep.target.module for dep in deps if dep.target.module in names]
        foreign = any(isinstance(dep.target.module, nn.Parameter) for dep in deps)
        consumed = any(not graph.is_out_channel_pruning_fn(dep.handler) for dep in deps if dep.target.module in names)
        if consumed and not foreign and all(is_sliceable(layer) for layer in layers):
            roots.append(root_of(graph, group, names))
    return roots


def drop(graph: Any, root: Root, dropped: list[int], names: dict[Any, str], structure: Structure) -> None:
    """Remove channels of one group from the graph's module in place, and note in `structure` what stays of each layer.

    Kept channels are noted in the numbers that the layers had at the start, those of `dropped` are as they are now.
    """
    layer = graph.model.get_submodule(root[0])
    pruner = graph.get_pruner_of_module(layer)
    handler = pruner.prune_out_channels if root[1] else pruner.prune_in_channels
    group = graph.get_pruning_group(layer, handler, dropped)
    for dep, indices in group:
        sliced = dep.target.module
        if sliced not in names:
            continue  # reshapes and additions have no channels of their own
        out = graph.is_out_channel_pruning_fn(dep.handler)
        count = graph.get_out_channels(sliced) if out else graph.get_in_channels(sliced)
        kept = structure.setdefault(names[sliced], {}).setdefault("out" if out else "in", list(range(count)))
        gone = set(indices)
        kept[:] = [channel for position, channel in enumerate(kept) if position not in gone]
    with torch.no_grad():
        group.prune()
