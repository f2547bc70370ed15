"""The power law with an error that no compute removes: error = floor + 10^a compute^b."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efflab.foundation.errors import RequestError
from efflab.frontier.fit import refusal
from efflab.statistics import Interval

FEWEST = 6  # points for three coefficients and an honest test
GRID = 400


@dataclass(frozen=True)
class FlooredLaw:
    """error = floor + 10^a compute^b, with the 95 % profile interval of the floor and the test against no floor."""

    a: float
    b: float
    floor: Interval
    p_value: float  # of a floor of 0, by the F test of the two sums of squares
    n: int
    r2: float  # of log10(error)

    @property
    def carried(self) -> bool:
        """Whether the points carry a floor: 0 is outside what they allow."""
        return self.p_value < 0.05


def fit_floor(compute: np.ndarray, error: np.ndarray) -> FlooredLaw:
    """Fit in log10(error), the floor by search below the least error; raise RequestError for too few or odd points."""
    from scipy.stats import f as f_distribution

    reason = refusal(compute, error)
    if len(error) < FEWEST:
        raise RequestError(f"an irreducible error needs at least {FEWEST} points (found {len(error)})")
    if reason:
        raise RequestError(reason.replace("family member", "point"))
    floors = np.concatenate([[0.0], np.min(error) * (1 - np.logspace(0, -3, GRID)[1:])])
    fits = [_at(compute, error, floor) for floor in floors]
    squares = np.array([fit[0] for fit in fits])
    best = int(squares.argmin())
    free = len(error) - 3
    scale = max(squares[best], 1e-300) / free
    allowed = floors[squares <= squares[best] + scale * f_distribution.ppf(0.95, 1, free)]
    total = float(((np.log10(error) - np.log10(error).mean()) ** 2).sum())
    _, a, b = fits[best]
    return FlooredLaw(
        a=a,
        b=b,
        floor=Interval(float(floors[best]), float(allowed.min()), float(allowed.max())),
        p_value=float(f_distribution.sf((squares[0] - squares[best]) / scale, 1, free)),
        n=len(error),
        r2=1 - float(squares[best]) / total if total > 0 else 0.0,
    )


def _at(compute: np.ndarray, error: np.ndarray, floor: float) -> tuple[float, float, float]:
    """Return the squares in log10(error), a and b of the best law above a given floor, by Gauss-Newton steps."""
    x, y = np.log10(compute), np.log10(error)
    design = np.column_stack([np.ones_like(x), x])
    line, *_ = np.linalg.lstsq(design, np.log10(error - floor), rcond=None)

    def residuals(coefficients: np.ndarray) -> np.ndarray:
        left: np.ndarray = y - np.log10(floor + 10 ** (design @ coefficients))
        return left

    for _ in range(20 if floor else 0):
        above = 10 ** (design @ line)
        share = above / (floor + above)
        step, *_ = np.linalg.lstsq(design * share[:, None], residuals(line), rcond=None)
        now, size = float((residuals(line) ** 2).sum()), 1.0
        while size > 1e-3 and float((residuals(line + size * step) ** 2).sum()) > now:
            size /= 2
        if size <= 1e-3 or np.abs(step).max() < 1e-9:
            break
        line = line + size * step
    return float((residuals(line) ** 2).sum()), float(line[0]), float(line[1])
