"""Percentiles that name the samples they need: bounds that hold for any distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4096)
def samples_over(n: int, percentile: float, confidence: float = 0.99) -> int:
    """Return how many of `n` samples may lie over a bound of the percentile (in percent); -1 if there is no bound."""
    if not 1 < percentile < 100:
        raise ValueError(f"percentile is in percent, over 1 and under 100 (found {percentile})")
    share = 1 - percentile / 100
    below, over = 0.0, -1
    while over < n:
        k = over + 1
        term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(term + k * math.log(share) + (n - k) * math.log1p(-share))
        if below > 1 - confidence:
            return over
        over = k
    return over


@lru_cache(maxsize=256)
def samples_needed(percentile: float, over: int = 1, confidence: float = 0.99) -> int:
    """Return the least number of samples that bounds a percentile (in percent) with `over` samples above the bound."""
    high = over + 1
    while samples_over(high, percentile, confidence) < over:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if samples_over(middle, percentile, confidence) >= over else (middle, high)
    return high


def percentile_bound(
    samples: Sequence[float] | np.ndarray, percentile: float, confidence: float = 0.99
) -> float | None:
    """Return an upper bound of a percentile (in percent), for any distribution; None with too few samples."""
    over = samples_over(len(samples), percentile, confidence)
    return float(np.sort(np.asarray(samples, float))[len(samples) - 1 - over]) if over >= 1 else None


def median_and_iqr(samples: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the median and the distance between the quartiles."""
    ordered = np.sort(np.asarray(samples, float))
    low, middle, high = np.interp((0.25, 0.5, 0.75), np.linspace(0, 1, len(ordered)), ordered)
    return float(middle), float(high - low)
