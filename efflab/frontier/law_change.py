"""Does a technique change the law itself, or only move along with it? One technique on several members of a family.

Where only the intercept of log10(error) on log10(compute) moves, M is the same at every size: the technique buys time.
Where the exponent changes, M grows or shrinks with size: the limit itself moves (Gundlach et al., arXiv 2511.21622).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from efflab.foundation.errors import RequestError
from efflab.frontier.fit import FEWEST, refusal
from efflab.statistics import Interval, student

SURE = 0.05
SAME = 0.2  # an exponent that surely changes by less than this share of the dense one is called parallel
MEANING = {
    "parallel": "the shift is the same at every size: it buys time and leaves the exponent as it is",
    "steeper": "the exponent changes: the larger the model, the larger the shift",
    "flatter": "the exponent changes: the larger the model, the smaller the shift",
    "undecided": "the interval holds both no change and one that would matter",
}


@dataclass(frozen=True)
class LawChange:
    """Two laws with one residual: the dense family's exponent, the treated members', and what their difference shows."""

    dense: float
    treated: float
    difference: Interval  # treated - dense
    p_value: float
    members: int

    def verdict(self, p_value: float) -> str:
        """parallel, steeper, flatter or undecided; `p_value` is this test's, corrected where it is one of several."""
        if p_value < SURE:
            return "steeper" if self.difference.value < 0 else "flatter"
        most = max(abs(self.difference.low), abs(self.difference.high))
        return "parallel" if most < SAME * abs(self.dense) else "undecided"


def law_change(
    dense: Sequence[tuple[float, float]], treated: Sequence[tuple[float, float]], most: float = 1.0
) -> LawChange:
    """Test whether treated members have another exponent than the dense family; pairs of (compute, error below `most`).

    Analysis of covariance: log10(error) on log10(compute) with an intercept and a slope for each group and one residual.
    Raises RequestError, in words, for fewer than three treated members or points that carry no law.
    """
    from scipy.stats import t

    if len(treated) < FEWEST:
        raise RequestError(
            f"a change of the law takes the technique on at least {FEWEST} members (found {len(treated)})"
        )
    for points in (dense, treated):
        reason = refusal([c for c, _ in points], [e for _, e in points], most)
        if reason:
            raise RequestError(reason)
    x = np.log10([compute for compute, _ in (*dense, *treated)])
    y = np.log10([error for _, error in (*dense, *treated)])
    group = np.repeat([0.0, 1.0], [len(dense), len(treated)])
    design = np.column_stack([np.ones_like(x), x, group, group * x])
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    free = len(y) - design.shape[1]
    residual = y - design @ coefficients
    variance = float(residual @ residual) / free
    error = math.sqrt(variance * np.linalg.inv(design.T @ design)[3, 3])
    slope, difference = float(coefficients[1]), float(coefficients[3])
    reach = student(free) * error
    return LawChange(
        dense=slope,
        treated=slope + difference,
        difference=Interval(difference, difference - reach, difference + reach),
        p_value=float(2 * t.sf(abs(difference) / error, free)) if error > 0 else float(difference == 0),
        members=len(treated),
    )
