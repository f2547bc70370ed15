"""Bootstrap draws of all scores and sessions of a study: each is resampled once, with the same examples and rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from efflab.comparison.place import task_of
from efflab.foundation.errors import RequestError
from efflab.foundation.wording import one_line
from efflab.records.record import SAME_QUALITY, Latency, Record
from efflab.records.samples import unpack_scores
from efflab.statistics import (
    Interval,
    bootstrap_medians,
    bootstrap_over_inputs,
    example_weights,
    interval_of,
    mix_seeds,
    resampled_means,
    time_over_inputs,
)

CHUNK = 256  # score arrays resampled in one matrix product
WORK = 2_000_000  # records x draws; more records share fewer draws, so that large tables stay quick
MOST_DRAWS, FEWEST_DRAWS = 2000, 200
NO_SCORES = "the study holds no scores of single examples that can be resampled"
POINTS = 100.0  # quality differences are given in points: hundredths of the metric


class Evidence:
    """Draws by record. The i-th draw of every quality of one task has the same examples, so differences are paired."""

    def __init__(self, records: Iterable[Record], seed: int = 0, draws: int | None = None):
        self.seed = seed
        records = list(records)
        self.draws = draws or int(np.clip(WORK // max(1, len(records)), FEWEST_DRAWS, MOST_DRAWS))
        self._quality: dict[Any, np.ndarray] = {}
        self._lost: dict[Any, str] = {}  # why there are no draws of a quality
        self._times: dict[tuple[int, int], np.ndarray] = {}
        self._samples: dict[int, np.ndarray] = {}
        self._resample_means(record for record in records if "quality" in record)

    def _resample_means(self, records: Iterable[Record]) -> None:
        waiting: dict[int, dict[Any, np.ndarray]] = {}
        for record in records:
            packed, key = record["quality"]["scores"], _score_key(record)
            if key in self._quality or key in waiting.get(_count(packed), {}):
                continue
            scores = unpack_scores(packed)
            if scores.ndim == 1 and len(scores):
                waiting.setdefault(len(scores), {})[key] = scores
            elif len(scores):
                self._quality[key], self._lost[key] = self._resample_metric(record, scores)
        for n, scores_by_key in waiting.items():
            weights, keys = example_weights(n, self.draws, self.seed), list(scores_by_key)
            for start in range(0, len(keys), CHUNK):
                some = keys[start : start + CHUNK]
                means = resampled_means(np.stack([scores_by_key[key] for key in some]), weights)
                self._quality.update(zip(some, means, strict=True))

    def _resample_metric(self, record: Record, scores: np.ndarray) -> tuple[np.ndarray, str]:
        """Return the draws of a metric that is no mean, and why there are none: the task must give the recorded value, too."""
        none = np.full(self.draws, np.nan)
        quality, why = _metric_of(record)
        if quality is None:
            return none, why
        counts = example_weights(len(scores), self.draws, self.seed).astype(int)
        examples = np.arange(len(scores))
        try:
            again = float(quality(scores))
            if not abs(again - record["quality"]["value"]) <= SAME_QUALITY:
                return none, "the task's quality() does not give the recorded value for the recorded scores any more"
            draws = [float(quality(scores[np.repeat(examples, counts[:, draw])])) for draw in range(self.draws)]
        except Exception as error:  # a plug-in's own code, on examples that it has not seen together
            return none, f"the task's quality() fails on resampled examples ({one_line(error)})"
        if not np.isfinite(draws).all():
            return none, "the task's quality() gives no number for some resamples of the examples"
        return np.array(draws), ""

    def quality(self, record: Record) -> np.ndarray:
        """Return the draws of a record's quality, shape (draws,); NaN where its scores cannot be resampled."""
        found = self._quality.get(_score_key(record))
        return np.full(self.draws, np.nan) if found is None else found

    def lost(self, record: Record) -> str:
        """Return why there are no draws of a record's quality, or "" if there are."""
        return "" if np.isfinite(self.quality(record)).all() else self._lost.get(_score_key(record), NO_SCORES)

    def difference(self, pairs: Sequence[tuple[Record, Record]]) -> Interval:
        """Return by how many points the second of each pair has the better quality, mean over the pairs, one for each seed.

        Its ends are NaN where scores cannot be resampled.
        """
        value = float(np.mean([b["quality"]["value"] - a["quality"]["value"] for a, b in pairs])) * POINTS
        draws = np.stack([self.quality(b) - self.quality(a) for a, b in pairs])
        if not np.isfinite(draws).all():
            return Interval(value, math.nan, math.nan)
        return interval_of(value, mix_seeds(draws, self.seed) * POINTS)

    def call_times(self, latency: Latency, rounds: int) -> np.ndarray:
        """Return the draws of a session's time of a call in ms over its first `rounds` rounds, shape (draws,)."""
        key = (id(latency), rounds)
        if key not in self._times:
            some, inputs = latency["rounds_ms"][:rounds], latency.get("inputs", 1)
            self._times[key] = (
                bootstrap_medians(some, self.draws, self.seed)
                if inputs == 1
                else bootstrap_over_inputs(some, inputs, self.draws, self.seed)
            )
        return self._times[key]

    def times(self, latency: Latency | None) -> np.ndarray | None:
        """Return the draws of a session's time of a call in ms over all its rounds, if there is a session."""
        return None if latency is None else self.call_times(latency, len(latency["rounds_ms"]))

    def speedup(self, theirs: Latency, mine: Latency) -> Interval:
        """Return their time over mine, over the rounds that both ran side by side."""
        n = min(len(theirs["rounds_ms"]), len(mine["rounds_ms"]))
        times = [self.call_time(latency, n) for latency in (theirs, mine)]
        return interval_of(times[0] / times[1], self.call_times(theirs, n) / self.call_times(mine, n))

    def call_time(self, latency: Latency, rounds: int | None = None) -> float:
        """Return a session's time of a call in ms, over its first `rounds` rounds if they are given.

        It is the median; and where the calls went over several inputs the mean over these of each one's median.
        """
        inputs, some = latency.get("inputs", 1), latency["rounds_ms"][:rounds]
        if inputs > 1:
            return time_over_inputs(some, inputs)
        whole = len(some) == len(latency["rounds_ms"])
        ordered = self.samples(latency) if whole else np.sort(np.concatenate(some))
        middle = len(ordered) // 2
        return float(ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)

    def samples(self, latency: Latency) -> np.ndarray:
        """Return all times of a session in ms, sorted."""
        if id(latency) not in self._samples:
            times = [time for one in latency["rounds_ms"] for time in one]
            self._samples[id(latency)] = np.sort(np.array(times, float))
        return self._samples[id(latency)]


def _count(packed: dict[str, Any]) -> int:
    return int(packed["n"] if "bits" in packed else packed["shape"][0])


def _score_key(record: Record) -> Any:
    packed = record["quality"]["scores"]
    return (task_of(record), _count(packed), packed.get("bits") or packed.get("float32"))


def _metric_of(record: Record) -> tuple[Callable[[np.ndarray], float] | None, str]:
    """Return the metric of a record's task, or why the task cannot be made again."""
    from efflab.foundation import registry

    name, settings = record["task"], record.get("task_settings", {})
    try:
        return registry.load("tasks", name)(**settings).quality, ""
    except RequestError as error:
        return None, " ".join(str(error).split())
    except ValueError as error:
        if settings:
            return None, f"the task {name!r} does not take its settings in this study any more ({one_line(error)})"
        return None, (f"the task {name!r} cannot be made without settings, and the study holds none, as older versions of "
                      "efflab write it; `efflab run` of its recipe adds them and repeats no work")  # fmt: skip
    except Exception as error:
        return None, f"the task {name!r} cannot be made ({one_line(error)})"
