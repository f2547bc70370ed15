"""Bootstrap draws of all scores of a study: each is resampled once, with the same examples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from efflab.comparison.place import task_of
from efflab.comparison.speeds import Speeds
from efflab.foundation.errors import RequestError
from efflab.foundation.wording import one_line
from efflab.records.quality import RULES, USUAL, error_of, is_share, unit_of, units_in_one
from efflab.records.record import SAME_QUALITY, Record
from efflab.records.samples import unpack_scores
from efflab.statistics import (
    Interval,
    example_weights,
    interval_of,
    mix_seeds,
    resampled_means,
    score_interval,
)

CHUNK = 256  # score arrays resampled in one matrix product
WORK = 2_000_000  # records x draws; more records share fewer draws, so that large tables stay quick
MOST_DRAWS, FEWEST_DRAWS = 2000, 200
FEW = 30  # discordant examples below which a bootstrap over examples tells too little of its own tails
NO_SCORES = "the study holds no scores of single examples that can be resampled"


class Evidence:
    """Draws by record. The i-th draw of every quality of one task has the same examples, so differences are paired."""

    def __init__(self, records: Iterable[Record], seed: int = 0, draws: int | None = None):
        self.seed = seed
        records = list(records)
        self.draws = draws or int(np.clip(WORK // max(1, len(records)), FEWEST_DRAWS, MOST_DRAWS))
        self._quality: dict[Any, np.ndarray] = {}
        self._errors: dict[Any, np.ndarray] = {}  # of metrics whose error only their task can say
        self._lost: dict[Any, str] = {}  # why there are no draws of a quality
        self.asked_tasks = False  # whether a task's own code had to say what scores mean
        self.speeds = Speeds(records, self.draws, seed)
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
        self.asked_tasks = True
        none = np.full(self.draws, np.nan)
        task, why = _task_of(record)
        if task is None:
            return none, why
        quality = task.quality
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
        return "" if np.isfinite(self.errors(record)).all() else self._lost.get(_score_key(record), NO_SCORES)

    def errors(self, record: Record) -> np.ndarray:
        """Return the draws of a record's error, shape (draws,); NaN where its scores cannot be resampled."""
        draws, rule = self.quality(record), record["quality"].get("error_rule", USUAL)
        if rule in RULES:
            return np.asarray(RULES[rule](draws))
        key = (_score_key(record), rule)
        if key not in self._errors:
            self.asked_tasks = True
            self._errors[key], why = _errors_of_task(record, draws)
            if why:
                self._lost[_score_key(record)] = why
        return self._errors[key]

    def difference(self, pairs: Sequence[tuple[Record, Record]]) -> Interval:
        """Return by how many units the second of each pair is better, mean over the pairs, one for each seed.

        The unit is that of the metric: points of a share. The ends are NaN where scores cannot be resampled.
        """
        unit = units_in_one(unit_of(pairs[0][1]["quality"]))
        value = float(np.mean([_better_by(a, b) for a, b in pairs])) * unit
        if all(is_share(record["quality"]) for pair in pairs for record in pair):
            draws = np.stack([self.quality(b) - self.quality(a) for a, b in pairs])
        else:
            draws = np.stack([self.errors(a) - self.errors(b) for a, b in pairs])
        if not np.isfinite(draws).all():
            return Interval(value, math.nan, math.nan)
        found = interval_of(value, mix_seeds(draws, self.seed) * unit)
        counts = [_discordant(a, b) for a, b in pairs]
        gained, lost, n = (float(one) for one in np.mean([one for one in counts if one] or [(0, 0, 0)], axis=0))
        if None in counts or (len(pairs) > 1 and gained + lost >= FEW):
            return found
        exact = score_interval(gained, lost, int(n))
        low, high = exact.low * unit, exact.high * unit
        return (
            Interval(value, low, high)
            if len(pairs) == 1
            else Interval(value, min(low, found.low), max(high, found.high))
        )


def _discordant(before: Record, after: Record) -> tuple[int, int, int] | None:
    """Return how many examples only the second, and only the first has right, of how many; None where scores are not 0/1."""
    one, other = before["quality"]["scores"], after["quality"]["scores"]
    if "bits" not in one or "bits" not in other or one["n"] != other["n"]:
        return None
    mine, theirs = unpack_scores(other).astype(bool), unpack_scores(one).astype(bool)
    return int(np.count_nonzero(mine & ~theirs)), int(np.count_nonzero(theirs & ~mine)), int(one["n"])


def mean_error(records: Sequence[Record]) -> float:
    """Return the error of records, one for each seed: of shares 1 - their mean, of other metrics the mean of the errors."""
    if all(is_share(record["quality"]) for record in records):
        return 1 - float(np.mean([record["quality"]["value"] for record in records]))
    return float(np.mean([error_of(record["quality"]) for record in records]))


def _better_by(before: Record, after: Record) -> float:
    one, other = before["quality"], after["quality"]
    if is_share(one) and is_share(other):
        return other["value"] - one["value"]
    return error_of(one) - error_of(other)


def _errors_of_task(record: Record, draws: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the error of each draw of a quality as the task says it, or NaN and why there are none."""
    none = np.full(len(draws), np.nan)
    task, why = _task_of(record)
    if task is None or not np.isfinite(draws).all():
        return none, why
    try:
        error = task.metrics[0].error
        if not abs(float(error(record["quality"]["value"])) - error_of(record["quality"])) <= SAME_QUALITY:
            return none, "the task's metric does not give the recorded error for the recorded value any more"
        found = np.array([float(error(float(value))) for value in draws])
    except Exception as failure:  # a plug-in's own code
        return none, f"the error of the task's metric cannot be worked out ({one_line(failure)})"
    return (
        (found, "")
        if np.isfinite(found).all()
        else (none, "the metric has no error for some resamples of the examples")
    )


def _count(packed: dict[str, Any]) -> int:
    return int(packed["n"] if "bits" in packed else packed["shape"][0])


def _score_key(record: Record) -> Any:
    packed = record["quality"]["scores"]
    return (task_of(record), _count(packed), packed.get("bits") or packed.get("float32"))


def _task_of(record: Record) -> tuple[Any, str]:
    """Return a record's task, or None and why it cannot be made again."""
    from efflab.foundation import registry

    name, settings = record["task"], record.get("task_settings", {})
    try:
        return registry.load("tasks", name)(**settings), ""
    except RequestError as error:
        return None, " ".join(str(error).split())
    except ValueError as error:
        if settings:
            return None, f"the task {name!r} does not take its settings in this study any more ({one_line(error)})"
        return None, (f"the task {name!r} cannot be made without settings, and the study holds none, as older versions of "
                      "efflab write it; `efflab run` of its recipe adds them and repeats no work")  # fmt: skip
    except Exception as error:
        return None, f"the task {name!r} cannot be made ({one_line(error)})"
