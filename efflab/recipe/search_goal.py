"""What a search wants: metrics to minimise, and bounds such as `error <= 0.12`; pure functions of measured values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from efflab.foundation.errors import nearest
from efflab.foundation.metrics import METRICS

LATENCY = "latency_ms_p50"
WORK = ("macs", "effective_macs", "bit_operations", "params", "nonzero_params", "artefact_bytes")
SEARCHABLE = ("error", "quality", LATENCY, *WORK)
_BOUND = re.compile(r"\s*(\w+)\s*(<=|>=)\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")

Values = Mapping[str, float]  # metric -> what was measured


@dataclass(frozen=True)
class Bound:
    """One constraint: `metric` at most (or at least) `limit`."""

    metric: str
    limit: float
    at_most: bool

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.at_most else '>='} {self.limit:g}"

    def excess(self, values: Values) -> float:
        """Return by how much `values` break the bound, as a share of the limit; 0 or less where they keep it."""
        gap = values[self.metric] - self.limit
        return (gap if self.at_most else -gap) / max(abs(self.limit), 1e-12)


@dataclass(frozen=True)
class Goal:
    """Metrics to minimise, the first one counting most, under bounds."""

    minimize: tuple[str, ...]
    bounds: tuple[Bound, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that must be measured."""
        return tuple(dict.fromkeys((*self.minimize, *(bound.metric for bound in self.bounds))))

    def excess(self, values: Values, known: Sequence[str] | None = None) -> float:
        """Return the sum of what `values` exceed the bounds by, of those whose metric is `known` (default: all)."""
        bounds = [bound for bound in self.bounds if known is None or bound.metric in known]
        return sum(max(0.0, bound.excess(values)) for bound in bounds)

    def beats(self, one: Values, other: Values) -> bool:
        """Say whether `one` is at least as good as `other` in everything that is minimised, and better in something."""
        left, right = ([values[name] for name in self.minimize] for values in (one, other))
        return all(a <= b for a, b in zip(left, right, strict=True)) and left != right


def parse_bound(text: str, shares: bool = True) -> Bound:
    """Read `error <= 0.12`; raise ValueError, with the nearest right spelling, for anything else.

    shares: quality and error are fractions; of a loss they can be any number.
    """
    found = _BOUND.fullmatch(text)
    if not found:
        raise ValueError(
            f"{text!r} is no bound; write `error <= 0.12` or `quality >= 0.88`: a metric, <= or >=, a number"
        )
    metric, sign, number = found.groups()
    check_metric(metric)
    limit = float(number.replace("_", ""))
    if not math.isfinite(limit):
        raise ValueError(f"{text!r}: the number is too large")
    if shares and metric in ("error", "quality") and not 0 <= limit <= 1:
        raise ValueError(f"{text!r}: {metric} is a fraction from 0 to 1")
    return Bound(metric, limit, sign == "<=")


def check_metric(name: str) -> None:
    """Raise ValueError for what a search cannot measure."""
    if name not in SEARCHABLE:
        raise ValueError(f"unknown metric {name!r}; {nearest(name, SEARCHABLE)}")


def contradiction(bounds: Sequence[Bound]) -> str:
    """Return in words which two bounds no value can keep at once, or ""."""
    low: dict[str, Bound] = {}
    high: dict[str, Bound] = {}
    for bound in bounds:
        one = _as_error(bound)
        side = high if one.at_most else low
        tighter = one.metric not in side or (one.limit < side[one.metric].limit) == one.at_most
        if tighter:
            side[one.metric] = one
    for metric in low.keys() & high.keys():
        if low[metric].limit > high[metric].limit:
            return f"{low[metric]} and {high[metric]} contradict each other"
    impossible = next((bound for bound in high.values() if bound.metric not in ("error",) and bound.limit <= 0), None)
    return f"{impossible} cannot be: it is more than 0 for every model" if impossible else ""


def _as_error(bound: Bound) -> Bound:
    """Return a bound on a quality that is a share as the one on error that it is."""
    if bound.metric != "quality" or not 0 <= bound.limit <= 1:
        return bound
    return Bound("error", 1 - bound.limit, not bound.at_most)


def front(goal: Goal, candidates: Sequence[Values]) -> list[int]:
    """Return which candidates keep all bounds and are beaten by no other such one, the best in the first metric first.

    Of those that are equal in all that is minimised, the one of least error stands for all.
    """
    fit = [index for index, values in enumerate(candidates) if goal.excess(values) == 0]
    kept: list[int] = []
    for index in sorted(fit, key=lambda one: [candidates[one].get(name, 1.0) for name in (*goal.minimize, "error")]):
        values = candidates[index]
        same = any(all(candidates[one][name] == values[name] for name in goal.minimize) for one in kept)
        if not same and not any(goal.beats(candidates[other], values) for other in fit):
            kept.append(index)
    return kept


def described(goal: Goal, values: Values) -> str:
    """Return the metrics of a goal with their values, as people read them."""
    return ", ".join(spelled_value(name, values[name]) for name in goal.metrics if name in values)


def spelled_value(name: str, value: float) -> str:
    """Return a metric with its value: `error 0.1230`, `macs 900,364`, `latency_ms_p50 0.0579 ms`."""
    if name in ("error", "quality"):
        return f"{name} {value:.4f}"
    if METRICS[name].unit == "ms":
        return f"{name} {value:.3g} ms"
    return f"{name} {value:,.0f}"
