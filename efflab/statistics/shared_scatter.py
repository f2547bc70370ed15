"""Scatter of many things, each seen a few times: what each shows is drawn towards what is common to all.

Five starts tell little of how much a session scatters between starts, but the sessions of a group scatter alike, more or
less; how much alike is estimated, too. Smyth, "Linear models and empirical Bayes methods", 2004, sections 4 and 6.2.
"""

from __future__ import annotations

import math

import numpy as np

MOST_PRIOR = 30.0  # degrees of freedom that the others may lend: a family of a dozen knows its own alikeness roughly
LEAST_VARIANCE = 1e-12  # of logarithms of times; less is a clock's grain


def moderated(variances: np.ndarray, freedom: int) -> tuple[np.ndarray, int]:
    """Return the variances drawn together, and their degrees of freedom, from those of `freedom` degrees each."""
    found = np.maximum(variances, LEAST_VARIANCE)
    half = freedom / 2
    logs = np.log(found) - digamma(half) + math.log(half)
    beyond_chance = float(logs.var(ddof=1)) - trigamma(half)
    prior = min(MOST_PRIOR, 2 * _inverse_trigamma(beyond_chance)) if beyond_chance > 0 else MOST_PRIOR
    common = math.exp(float(logs.mean()) + digamma(prior / 2) - math.log(prior / 2))
    return (prior * common + freedom * found) / (prior + freedom), math.floor(prior + freedom)


def digamma(x: float) -> float:
    """Return the derivative of log gamma, x > 0 (Abramowitz and Stegun, 6.3.5 and 6.3.18)."""
    below = 0.0
    while x < 6:
        below, x = below - 1 / x, x + 1
    square = 1 / (x * x)
    return below + math.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square / 252))


def trigamma(x: float) -> float:
    """Return the second derivative of log gamma, x > 0 (Abramowitz and Stegun, 6.4.6 and 6.4.12)."""
    below = 0.0
    while x < 6:
        below, x = below + 1 / (x * x), x + 1
    square = 1 / (x * x)
    return below + 1 / x + square / 2 + square / x * (1 / 6 - square * (1 / 30 - square / 42))


def _inverse_trigamma(value: float) -> float:
    """Return the x whose trigamma is `value`; it falls as x grows."""
    low, high = 1e-4, 1e6
    for _ in range(80):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if trigamma(middle) > value else (low, middle)
    return low
