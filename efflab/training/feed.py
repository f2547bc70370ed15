"""Brings the examples of a split to where a training works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map

from efflab.contracts.examples import as_tensors
from efflab.contracts.task import Batch, Split

Take = Callable[[torch.Tensor], tuple[tuple[torch.Tensor, ...], Any]]  # places -> inputs, and targets


def taker(split: Split, device: str) -> Take:
    """Return what takes examples of a split, by their places, as tensors on a device.

    A split that lies in memory is brought there once; of another each batch is brought when its turn comes.
    """
    whole = split.whole()
    if whole is None:
        return lambda places: _tensors(split.batch(places.tolist()), device)
    inputs, targets = _tensors(whole, device)

    def take(places: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], Any]:
        index = places.to(device)
        return tuple(one[index] for one in inputs), tree_map(lambda one: one[index], targets)

    return take


def _tensors(batch: Batch, device: str) -> tuple[tuple[torch.Tensor, ...], Any]:
    return tuple(torch.from_numpy(array).to(device) for array in batch.inputs), as_tensors(batch.targets, device)
