"""Times of calls that were measured in rounds, and how much faster one model is than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from efflab.statistics.intervals import Interval, scatter_weights, student


def time_over_inputs(rounds: Sequence[Sequence[float]], inputs: int) -> float:
    """Return the mean over inputs of each one's median time; rounds are whole turns over the inputs.

    One median of all would show the most frequent kind of input only, and a mean of all whatever disturbed the machine.
    """
    samples = np.concatenate([np.asarray(one, float) for one in rounds])
    return float(np.median(samples.reshape(-1, inputs), axis=0).mean())


GAP = 1.2  # starts whose times lie further apart than this are looked at for two speeds
APART = 3.0  # and so many times the scatter on either side of the gap


@dataclass(frozen=True)
class TwoSpeeds:
    """Two speeds of one session: its time of a call in ms in so many of its starts, the fast ones first."""

    times_ms: tuple[float, float]
    starts: tuple[int, int]

    def __str__(self) -> str:
        """Say it in words."""
        (fast, slow), (few, others) = self.times_ms, self.starts
        return f"two speeds: {fast:.3g} and {slow:.3g} ms in {few} and {others} of {few + others} starts"


def time_by_start(rounds: Sequence[Sequence[float]], starts: Sequence[int], inputs: int = 1) -> np.ndarray:
    """Return the time of a call in each start of a session; `starts` says how many of the rounds each has."""
    found, first = [], 0
    for count in starts:
        found.append(time_over_inputs(rounds[first : first + count], inputs))
        first += count
    return np.array(found)


def two_speeds(times_ms: np.ndarray) -> TwoSpeeds | None:
    """Return the two speeds of a session whose starts fall into two groups, else None; `times_ms`: one a start."""
    ordered = np.sort(times_ms)
    logs = np.log(ordered)
    gaps = np.diff(logs)
    if len(logs) < 3 or gaps.max() < np.log(GAP):
        return None
    cut = int(gaps.argmax()) + 1
    sides = logs[:cut], logs[cut:]
    scatter = np.sqrt(sum(((side - side.mean()) ** 2).sum() for side in sides) / (len(logs) - 2))
    if gaps.max() < APART * scatter:
        return None
    fast, slow = (float(np.median(side)) for side in (ordered[:cut], ordered[cut:]))
    return TwoSpeeds((fast, slow), (cut, len(logs) - cut))


def ratio_over_starts(
    theirs_ms: np.ndarray, mine_ms: np.ndarray, variance: float | None = None, freedom: int | None = None
) -> Interval:
    """Return the speed-up theirs / mine from one time a start, start i of both side by side.

    What differs from process to process (the layout of memory, the placement of threads) is in it: Student's t over the
    starts, of logarithms of ratios. variance, freedom: of such a logarithm, where more is known than these starts tell.
    """
    apart = np.log(theirs_ms) - np.log(mine_ms)
    middle, n = float(apart.mean()), len(apart)
    if variance is None or freedom is None:
        variance, freedom = float(apart.var(ddof=1)), n - 1
    half = student(freedom) * math.sqrt(variance / n)
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def covering(ratio: Interval, theirs_ms: np.ndarray, mine_ms: np.ndarray) -> Interval:
    """Return the interval of a speed-up, widened to every pairing of the starts of two sessions: one of them has two speeds."""
    low, high = float(theirs_ms.min() / mine_ms.max()), float(theirs_ms.max() / mine_ms.min())
    return Interval(ratio.value, min(ratio.low, low), max(ratio.high, high))


def draws_over_starts(times_ms: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """Return `draws` of a session's time of a call, by the scatter of its starts, shape (draws,).

    Equal seeds weigh the starts alike, so the ratio of two sessions' draws keeps what their starts share.
    """
    logs = np.log(times_ms)
    found: np.ndarray = np.exp(logs.mean() + scatter_weights(len(logs), draws, seed) @ (logs - logs.mean()))
    return found
