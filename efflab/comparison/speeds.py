"""Times of the sessions of studies: of each session, its draws, and how much faster one is than another of its group."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from efflab.records.record import Latency, Record
from efflab.statistics import (
    Interval,
    TwoSpeeds,
    covering,
    draws_over_starts,
    interval_of,
    moderated,
    ratio_over_starts,
    scatter_weights,
    time_by_start,
    time_over_inputs,
    two_speeds,
)

# How much sessions of one start differ from process to process, as a standard deviation of logarithms. The times of one start
# tell nothing of it: of 122 A/A ratios of single starts, 95 % lay within 8 % of 1, and this lets expect 11 %.
ONE_START = 0.04


LEAST_MS = 1e-6  # a round of zeros says that a call takes less than the grain of a clock
FEWEST = 8  # sessions of a group that can tell how far sessions scatter; in fewer, each pair has its own starts only


class Speedup(NamedTuple):
    """A speed-up in a group, and the degrees of freedom of its scatter; None where that was assumed."""

    interval: Interval
    freedom: int | None
    group: str


class Speeds:
    """The times of all sessions; equal draws of two sessions have the same starts, or rounds, so that ratios are paired."""

    def __init__(self, records: Iterable[Record], draws: int, seed: int):
        self.draws, self.seed = draws, seed
        self._by_start: dict[int, np.ndarray | None] = {}
        self._times: dict[tuple[int, int], np.ndarray] = {}
        self._samples: dict[int, np.ndarray] = {}
        self._numbers: dict[int, int] = {}
        groups: dict[str, dict[int, Latency]] = {}
        for record in records:
            if "latency" in record:
                latency = record["latency"]
                groups.setdefault(latency["group"], {})[id(latency)] = latency
                self._numbers[id(latency)] = len(self._numbers)
        self._even: dict[int, np.ndarray] = {}  # times by start in ms, without what all sessions of the group share
        self._scatter: dict[int, tuple[float, int]] = {}  # variance between starts, and its degrees of freedom
        for members in groups.values():
            self._share_scatter([one for one in members.values() if self.by_start(one) is not None])

    def by_start(self, latency: Latency) -> np.ndarray | None:
        """Return the time of a call in ms in each start of a session; None where there is one start only."""
        key = id(latency)
        if key not in self._by_start:
            starts, inputs = latency.get("starts", []), latency.get("inputs", 1)
            self._by_start[key] = time_by_start(latency["rounds_ms"], starts, inputs) if len(starts) > 1 else None
        return self._by_start[key]

    def two_speeds(self, latency: Latency) -> TwoSpeeds | None:
        """Return the two speeds of a session whose starts fall into two groups, beyond what all sessions share."""
        return two_speeds(self._even[id(latency)]) if id(latency) in self._even else None

    def call_time(self, latency: Latency) -> float:
        """Return a session's time of a call in ms: the geometric mean over its starts of the median of each.

        Where the calls went over several inputs, the mean over these of each one's median stands for the median.
        """
        times = self.by_start(latency)
        return self._over_rounds(latency, None) if times is None else float(np.exp(np.log(times).mean()))

    def call_times(self, latency: Latency) -> np.ndarray:
        """Return the draws of a session's time of a call in ms, shape (draws,)."""
        times = self.by_start(latency)
        if times is None:
            return self._draws_over_rounds(latency, len(latency["rounds_ms"]))
        return draws_over_starts(times, self.draws, self.seed)

    def call_interval(self, latency: Latency) -> Interval:
        """Return a session's time of a call in ms with its interval."""
        return interval_of(self.call_time(latency), self.call_times(latency))

    def speedup(self, theirs: Latency, mine: Latency) -> Speedup:
        """Return their time over mine, over the starts (or the rounds) that both have side by side."""
        a, b = self.by_start(theirs), self.by_start(mine)
        if a is None or b is None or len(a) != len(b):
            n = min(len(theirs["rounds_ms"]), len(mine["rounds_ms"]))
            value = self._over_rounds(theirs, n) / self._over_rounds(mine, n)
            drawn = self._draws_over_rounds(theirs, n) / self._draws_over_rounds(mine, n)
            return Speedup(interval_of(value, drawn), None, mine["group"])
        mine_id, theirs_id = id(mine), id(theirs)
        if self.two_speeds(theirs) or self.two_speeds(mine):
            plain = ratio_over_starts(a, b)
            return Speedup(covering(plain, self._even[theirs_id], self._even[mine_id]), len(a) - 1, mine["group"])
        if theirs_id not in self._scatter or mine_id not in self._scatter:
            return Speedup(ratio_over_starts(a, b), len(a) - 1, mine["group"])
        (one, freedom), (other, _) = self._scatter[theirs_id], self._scatter[mine_id]
        return Speedup(ratio_over_starts(a, b, one + other, freedom), freedom, mine["group"])

    def samples(self, latency: Latency) -> np.ndarray:
        """Return all times of a session in ms, sorted."""
        if id(latency) not in self._samples:
            times = [time for one in latency["rounds_ms"] for time in one]
            self._samples[id(latency)] = np.sort(np.array(times, float))
        return self._samples[id(latency)]

    def _share_scatter(self, group: list[Latency]) -> None:
        """Work out how a group's sessions scatter between starts, beyond what all of them share in each start.

        What they share is the median of how far each lies from its own mean: a session that scatters wildly, or has two
        speeds, is not to make the others uncertain.
        """
        for starts in {len(one["starts"]) for one in group}:
            some = [one for one in group if len(one["starts"]) == starts]
            logs = np.log(np.stack([self._start_times(one) for one in some]))
            shared = np.median(logs - logs.mean(axis=1, keepdims=True), axis=0)
            self._even.update({id(one): np.exp(row - shared) for one, row in zip(some, logs, strict=True)})
            steady = [index for index, one in enumerate(some) if self.two_speeds(one) is None]
            if len(steady) < FEWEST:
                continue
            apart = logs - shared
            apart = apart[steady] - apart[steady].mean(axis=1, keepdims=True)
            variances = (apart**2).sum(axis=1) / (starts - 1) * _for_the_median(len(some))
            variances, freedom = moderated(variances, starts - 1)
            self._scatter.update({id(some[one]): (float(v), freedom) for one, v in zip(steady, variances, strict=True)})

    def _start_times(self, latency: Latency) -> np.ndarray:
        times = self.by_start(latency)
        assert times is not None
        return times

    def _over_rounds(self, latency: Latency, rounds: int | None) -> float:
        inputs, some = latency.get("inputs", 1), latency["rounds_ms"][:rounds]
        if inputs > 1:
            return time_over_inputs(some, inputs)
        whole = len(some) == len(latency["rounds_ms"])
        ordered = self.samples(latency) if whole else np.sort(np.concatenate(some))
        middle = len(ordered) // 2
        return float(ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)

    def _draws_over_rounds(self, latency: Latency, rounds: int) -> np.ndarray:
        """Return draws over the rounds of a single start, with the scatter that one start does not show."""
        key = (id(latency), rounds)
        if key not in self._times:
            some = latency["rounds_ms"][:rounds]
            logs = np.log([max(one, LEAST_MS) for one in time_by_start(some, [1] * rounds, latency.get("inputs", 1))])
            apart = scatter_weights(rounds, self.draws, self.seed) @ (logs - logs.mean()) if rounds > 1 else 0.0
            number = self._numbers.get(id(latency), 0)
            half = np.random.default_rng((self.seed, number)).standard_normal((self.draws + 1) // 2)
            unseen = ONE_START * np.concatenate([half, -half])[: self.draws]
            self._times[key] = self._over_rounds(latency, rounds) * np.exp(apart + unseen)
        return self._times[key]


def _for_the_median(n: int) -> float:
    """Return by how much the scatter of n values about their median falls short of their own (normal values)."""
    of_median = 0.5 if n == 2 else math.pi / (2 * n + 1)  # variance of the median of n
    return 1 / (1 - 2 / n + of_median)
