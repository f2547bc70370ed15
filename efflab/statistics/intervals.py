"""A value with its 95 % interval, and Student's t behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SPREAD = (2.5, 97.5)  # percentiles of the 95 % intervals


NORMAL = 1.96  # what Student's t tends to


STUDENT = (  # 97.5th percentile of Student's t for 1..30 degrees of freedom
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; what is not known is NaN: the ends, or all three."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    @property
    def bounded(self) -> bool:
        """Whether the ends are known."""
        return not math.isnan(self.low)


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def interval_of(value: float, draws: np.ndarray) -> Interval:
    """Return `value` with the 95 % percentile interval of its bootstrap draws, widened to hold the value itself."""
    # two order statistics by hand: np.percentile costs more than the bootstrap it summarises
    ordered = np.sort(draws)
    places = [round(percent / 100 * (len(ordered) - 1)) for percent in SPREAD]
    return Interval(value, min(value, float(ordered[places[0]])), max(value, float(ordered[places[1]])))


def student(freedom: int) -> float:
    """Return the 97.5th percentile of Student's t."""
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else NORMAL + 2.5 / freedom


@lru_cache(maxsize=256)
def student_at(freedom: int, level: float = 0.95) -> float:
    """Return how many standard errors an interval of this level reaches to either side, by Student's t."""
    if level == 0.95:
        return student(freedom)
    low, high = 0.0, 2.0
    while student_p(high, freedom) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 1 - level else (low, middle)
    return high


def student_p(t: float, freedom: int) -> float:
    """Return the two-sided p-value of Student's t with whole degrees of freedom (Abramowitz and Stegun, 26.7.3-4)."""
    if not math.isfinite(t):
        return 0.0
    angle = math.atan2(abs(t), math.sqrt(freedom))
    square = math.cos(angle) ** 2
    if freedom % 2:
        terms, term = 0.0, math.sin(angle) * math.cos(angle)
        for k in range(1, freedom // 2 + 1):
            terms, term = terms + term, term * square * (2 * k) / (2 * k + 1)
        inside = 2 / math.pi * (angle + terms)
    else:
        terms, term = 0.0, math.sin(angle)
        for k in range(1, freedom // 2 + 1):
            terms, term = terms + term, term * square * (2 * k - 1) / (2 * k)
        inside = terms
    return max(0.0, 1 - inside)


@lru_cache(maxsize=16)
def scatter_weights(n: int, draws: int, seed: int) -> np.ndarray:
    """Return weights (draws, n) whose products with deviations from a mean are draws of t x its standard error.

    Each draw stands there with both signs, so that an interval leans to neither side.
    """
    generator = np.random.default_rng(seed)
    half = (draws + 1) // 2
    chi_square = generator.chisquare(n - 1, (half, 1))
    found = generator.standard_normal((half, n)) / np.sqrt(n * chi_square)
    return np.concatenate([found, -found])[:draws]
