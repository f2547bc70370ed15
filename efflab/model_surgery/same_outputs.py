"""Whether two runs of a model gave the same outputs, up to rounding: any nesting, -inf where a class is switched off."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from efflab.artefacts.interface import leaves

FLOOR = 1e-5  # of a difference, for outputs that are nearly zero
SLACK = {torch.float32: 1e-3, torch.float64: 1e-3}  # of the largest output; other types round coarsely
COARSE = 5e-2


def slack_of(dtype: torch.dtype) -> float:
    """Return by what share of the largest output two ways to compute in `dtype` may differ."""
    return SLACK.get(dtype, COARSE)


def same_outputs(found: Any, wanted: Any, slack: float) -> bool:
    """Say whether nested outputs are of the same shapes, and differ by at most `slack` of each one's largest number."""
    return excess(found, wanted, slack) is None


def excess(found: Any, wanted: Any, slack: float) -> str | None:
    """Return in words how outputs differ by more than `slack` of each one's largest number; None where they do not."""
    ours, theirs = ([_tensor(one) for one in leaves(side)] for side in (found, wanted))
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        return "other shapes"
    for now, was in zip(ours, theirs, strict=True):
        if not now.numel():
            continue
        finite = was.isfinite()
        same = (now == was) | (now.isnan() & was.isnan())
        if not bool(same[~finite].all()) or not bool(now[finite].isfinite().all()):
            return "NaN or infinity in other places"
        worst = float((now - was)[finite].abs().max()) if bool(finite.any()) else 0.0
        largest = float(was[finite].abs().max()) if bool(finite.any()) else 0.0
        if not math.isfinite(worst) or worst > slack * largest + FLOOR:
            return f"up to {worst:.3g}"
    return None


def _tensor(leaf: Any) -> Tensor:
    return torch.as_tensor(leaf).detach().double()
