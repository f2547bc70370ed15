"""Measures the statistics of batch norms anew, for networks that lost channels or layers since they were trained."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from efflab.contracts.examples import like_parameters


def measure_norms(module: nn.Module, batches: Iterable[tuple[np.ndarray, ...]]) -> int:
    """Set the running statistics of all batch norms of `module` in place to their means over the batches.

    Only norms are put in training mode, so dropout stays off. Returns how many norms there are; with none nothing is run.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    module.eval()
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    try:
        with torch.no_grad():
            for batch in batches:
                module(*(like_parameters(torch.from_numpy(array.copy()), module) for array in batch))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    return len(norms)
