"""Quality on the same examples: paired differences, exact tests, and the scatter of seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from efflab.statistics.intervals import NORMAL, Interval, interval_of, scatter_weights


def mcnemar_exact(a_scores: np.ndarray, b_scores: np.ndarray) -> float:
    """Return the two-sided exact p-value of two models being right equally often, from 0/1 scores of equal examples."""
    a, b = np.asarray(a_scores, bool), np.asarray(b_scores, bool)
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    n, least = only_a + only_b, min(only_a, only_b)
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(least + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(term) for term in logs))


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    quality: Callable[[np.ndarray], float] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return quality(b) - quality(a) by a bootstrap over examples, the same for both; by default of means."""
    a, b = np.asarray(a), np.asarray(b)
    _check_paired(a, b)
    generator = np.random.default_rng(seed)
    n = len(a)
    if quality is not None:
        picks = (generator.integers(0, n, n) for _ in range(draws))
        found = np.array([quality(b[pick]) - quality(a[pick]) for pick in picks])
        return interval_of(float(quality(b) - quality(a)), found)
    difference = b.astype(float) - a.astype(float)
    gained, lost = int(np.count_nonzero(difference == 1)), int(np.count_nonzero(difference == -1))
    if gained + lost == np.count_nonzero(difference):
        return score_interval(gained, lost, n)
    means = resampled_means(difference[None], example_weights(n, draws, seed))[0]
    return interval_of(float(difference.mean()), means)


def score_interval(gained: float, lost: float, n: int) -> Interval:
    """Return (gained - lost) / n with its score interval, for 0/1 scores of the same `n` examples (Tango 1998, eq. 8).

    gained, lost: examples that only the second, or only the first model has right; means over seeds need not be whole.
    The interval has a width even where both models are right on the same examples.
    """
    value = (gained - lost) / n

    def apart(difference: float) -> float:
        """Return how many standard errors the counts lie over what this difference lets expect."""
        b = (2 * n - gained + lost) * difference - gained - lost
        root = math.sqrt(max(0.0, b * b + 8 * n * lost * difference * (1 - difference)))
        variance = n * ((root - b) / (2 * n) + difference * (1 - difference))
        return (
            (gained - lost - n * difference) / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, value)
        )

    ends = []
    for outside in (-1.0, 1.0):
        inside = value
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if abs(apart(middle)) > NORMAL else (middle, outside)
        ends.append(inside)
    return Interval(value, ends[0], ends[1])


def _check_paired(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or not len(a):
        raise ValueError(f"scores must be of the same examples, at least one (found shapes {a.shape} and {b.shape})")


@lru_cache(maxsize=4)
def example_weights(n: int, draws: int, seed: int = 0) -> np.ndarray:
    """Return how often each of `n` examples stands in each bootstrap draw, shape (n, draws), float32."""
    generator = np.random.default_rng(seed)
    counts = [np.bincount(generator.integers(0, n, n, dtype=np.int32), minlength=n) for _ in range(draws)]
    return np.stack(counts).astype(np.float32).T  # this memory order is twice as fast to multiply with


def resampled_means(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean scores of models on each draw of examples: (models, n) and (n, draws) give (models, draws)."""
    result: np.ndarray = (scores.astype(np.float32) @ weights).astype(float) / len(weights)
    return result


def mix_seeds(draws_by_seed: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return draws of the mean over seeds with the seeds' scatter: (seeds, draws) of a statistic give (draws,).

    What seeds differ by on these examples has two parts: how the trainings differ, and the luck of each on the examples
    drawn. The draws hold the second already, so only what is beyond it is added (as in an analysis of variance; two
    plain bootstraps would count it three times: Owen, "The pigeonhole bootstrap", 2007). It is added as draws of Student's
    t, since three values resampled know nothing of their own tails. Equal seeds of the generator weigh the trainings
    alike, so statistics mixed one by one keep what their trainings share.
    """
    seeds, draws = draws_by_seed.shape
    if seeds == 1:
        alone: np.ndarray = draws_by_seed[0]
        return alone
    everywhere: np.ndarray = draws_by_seed.mean(axis=0)
    means = draws_by_seed.mean(axis=1)
    apart = float(means.var(ddof=1))
    if not apart > 0:
        return everywhere
    luck = float((draws_by_seed - everywhere).var(axis=1).mean()) * seeds / (seeds - 1)
    # the scatter of two is known so badly that what may be luck is not taken off it
    share = 1.0 if seeds == 2 else max(0.0, 1 - luck / apart)
    mixed: np.ndarray = everywhere + math.sqrt(share) * (
        scatter_weights(seeds, draws, seed + 1) @ (means - means.mean())
    )
    return mixed
