"""What a recipe's search tried, what it cost, and how its best stands beside the recipes that a person wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efflab.comparison.row import Row
from efflab.foundation.metrics import METRICS
from efflab.records.quality import SHARE
from efflab.records.trial import BEST
from efflab.reporting.numbers import digits, points_text, quality_text, si
from efflab.reporting.section import Asked, Section, tally
from efflab.reporting.table import ratio

FRACTIONS = ("error", "quality")


def search(asked: Asked) -> Section | None:
    """Return the trials of a search with their ends and costs; None for a study without one."""
    told = asked.study.get("search")
    if told is None:
        return None
    named = dict.fromkeys(told["front"], "on the front") | {number: name for name, number in told["found"].items()}
    metrics = list(dict.fromkeys([*told["minimize"], *(bound.split()[0] for bound in told["where"])]))
    table = tuple(
        (
            str(trial["number"]), trial["recipe"], named.get(trial["number"], trial["state"]),
            *(_value(name, trial["values"]) for name in metrics), si(trial["cost"]["training_macs"], "MAC"), trial["why"],
        )
        for trial in told["trials"]
    )  # fmt: skip
    points = "a continuous space" if told["points"] is None else f"a space of {told['points']:,.0f} points"
    under = f" under {' and '.join(told['where'])}" if told["where"] else ""
    ends = tally(trial["state"] for trial in told["trials"])
    sentences = [
        f"{len(told['trials'])} trials of {points}, for the least {', then '.join(told['minimize'])}{under}, judged on the "
        f"validation split on {told['backend']}: {ends}.",
        f"All trials, with the trainings of the cards that they started from, cost {si(told['cost']['training_macs'], 'MAC')} "
        f"of training and {told['cost']['seconds'] / 60:.0f} minutes; what was found bears all of it.",
        *_unmeasured(told["front"], told["found"]),
        *_busy(told["trials"]),
        *_beside(asked),
    ]
    heads = ("trial", "recipe", "end", *metrics, "training", "why it was stopped")
    notes = (
        "Stopped trials have the values that were known then. A cost is of what no trial before had made already.",
    )
    return Section(
        "search", "What the search tried", tuple(sentences), heads, table, notes, tuple(map(dict, told["trials"]))
    )


def _unmeasured(front: list[int], found: dict[str, int]) -> list[str]:
    left = len(front) - len(found)
    return (
        [f"{len(front)} trials are beaten by none; {len(found)} of them, spread over the front, are measured."]
        if left
        else []
    )


def _busy(trials: list[Any]) -> list[str]:
    """Say of how many trials the clock was read while others used the machine."""
    timed = [trial["quiet"] for trial in trials if "quiet" in trial]
    busy = len(timed) - sum(timed)
    return [f"{busy} of {len(timed)} timed trials were timed while others used the machine."] if busy else []


def _value(name: str, values: Mapping[str, float]) -> str:
    if name not in values:
        return ""
    value = values[name]
    return f"{value:.4f}" if name in FRACTIONS else digits(value) if METRICS[name].unit == "ms" else si(value)


def _beside(asked: Asked) -> list[str]:
    """Compare the best with each variant that the recipe names, by all compute that either took, its dense model's included."""
    told = asked.study["search"]
    where = (told["backend"], told["batch_size"])
    rows = [row for row in asked.rows if (row.place.backend, row.place.batch_size) == where and row.role == "variant"]
    rows = rows or [row for row in asked.rows if row.role == "variant"]
    best = next((row for row in rows if row.variant == BEST and row.status == "ok"), None)
    if best is None:
        return []
    others = [row for row in rows if row.variant not in told["found"] and row.place == best.place]
    others = [row for row in others if row.status == "ok" and row.cost.recovery_macs is not None]
    return [_told(best, "found by the search"), *(_told(row, "written by hand") for row in others)]


def _told(row: Row, how: str) -> str:
    spent = (row.cost.training_macs or 0.0) + (row.cost.recovery_macs or 0.0)
    parts = [_quality(row)]
    if row.against.difference.bounded:
        found = row.against.difference
        parts[0] += f" ({points_text(found.value, found.low, found.high)} {row.quality.unit})"
    parts.append(f"{si(row.work.bit_operations or 0)} bit-operations")
    if row.against.speedup.known:
        parts.append(f"{ratio(row.against.speedup)} as fast")
    for axis, words in (("latency", "time"), ("bits", "bit-operations")):
        if row.shift(axis).shift.known:
            parts.append(f"M = {ratio(row.shift(axis).shift)} in {words}")
    return f"{row.variant} ({how}; {si(spent, 'MAC')} of training in all, {row.place.words}): {', '.join(parts)}."


def _quality(row: Row) -> str:
    value, unit = row.quality.value, row.quality.unit
    if value is None:
        return "not scored"
    return f"{value:.2%}" if unit == SHARE else quality_text(value, unit)
