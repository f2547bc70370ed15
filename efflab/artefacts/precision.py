"""The edges of a module: its own floating dtype, and float32 around a module that computes in another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from efflab.artefacts.interface import leaves


def own_dtype(module: nn.Module) -> torch.dtype:
    """Return the floating dtype of the module's parameters and buffers; float32 if it has none."""
    tensors = (*module.parameters(), *module.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


class TensorsOnly(nn.Module):
    """Gives the tensors among a module's outputs, in order, as a tuple: exporters know no dataclasses, names or None."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.inner = module

    def forward(self, *inputs: Tensor) -> Any:
        """Call, and keep the tensors."""
        found = tuple(leaves(self.inner(*inputs)))
        return found[0] if len(found) == 1 else found


def is_plain(outputs: Any) -> bool:
    """Say whether outputs are tensors in plain tuples, lists and dictionaries alone."""
    if type(outputs) in (tuple, list):
        return all(map(is_plain, outputs))
    if type(outputs) is dict:
        return all(map(is_plain, outputs.values()))
    return outputs is None or isinstance(outputs, Tensor)


class Float32Edges(nn.Module):
    """Takes and gives float32; the module inside gets and returns its own dtype."""

    def __init__(self, module: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.inner, self.dtype = module, dtype

    def forward(self, *inputs: Tensor) -> Any:
        """Cast, call, cast back."""
        outputs = self.inner(*(x.to(self.dtype) if x.is_floating_point() else x for x in inputs))
        return torch.utils._pytree.tree_map_only(
            torch.Tensor, lambda y: y.float() if y.is_floating_point() else y, outputs
        )
