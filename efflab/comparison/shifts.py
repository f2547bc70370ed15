"""Where each row stands: its shift against the dense family, on every axis of compute.

A shift is not measurable, and is not given as a number, where the family has fewer than five members or hardly differs in
compute, the law's slope is not significant, or the 95 % interval spans more than a factor of 100. Where a larger dense model
is faster than a smaller one it is flagged.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from efflab.comparison.columns import AXES
from efflab.comparison.dominance import place_of
from efflab.comparison.draws import Evidence
from efflab.foundation.errors import RequestError
from efflab.frontier.fit import FEW
from efflab.frontier.shift import Family, Point, Shift, family_of, shift_of
from efflab.statistics import Interval

if TYPE_CHECKING:
    from efflab.comparison.row import Cell

MOST_SPAN = 100.0  # upper over lower end of an interval that still says something
LEAST_RANGE = 1.5  # largest over least compute of a family on which error may be held against compute at all
NOT_MEASURABLE = "not measurable"
NOT_MONOTONIC = "times not monotonic in MACs"
TIMED = ("latency", "energy")  # axes on which a larger model that is faster breaks the order
COUNTED = ("macs", "bits")  # axes that a backend does not change: its family may have been counted on another one
POINTS = 100.0
Members = dict[tuple[Any, ...], list["Cell"]]


class Placed(NamedTuple):
    """The shift of one row on one axis, and the family that it was held against."""

    row: dict[str, Any]
    axis: str
    shift: Shift
    family: Family
    steps: tuple[str, ...]  # with their settings, as JSON


def fill_shifts(
    cells: list[Cell], baselines: Members, evidence: Evidence, uneven: Collection[tuple[Any, ...]], axes: Iterable[str]
) -> list[Placed]:
    """Fill the shift columns of every variant and control that belongs to a family; flag those at `uneven` places."""
    members: Members = {}
    for cell in cells:
        if cell.row["role"] in ("baseline", "dense") and cell.row["family"] and cell.error is not None:
            members.setdefault((cell.row["family"], cell.row["task"], *cell.place), []).append(cell)
    fitted: dict[tuple[Any, ...], Family | str] = {}
    placed = []
    for cell in cells:
        of = cell.records[0]["of"]
        baseline = next(iter(baselines.get((of, *cell.place), [])), None)
        if cell.row["role"] not in ("variant", "control", "repeat") or cell.error is None or baseline is None:
            continue
        for axis in axes:
            place, note = _place(members, cell, axis)
            if axis in TIMED and place_of(cell.row) in uneven:
                note = NOT_MONOTONIC
            if (axis, *place) not in fitted:
                fitted[(axis, *place)] = _family(members.get(place, []), AXES[axis].column, evidence)
            family = fitted[(axis, *place)]
            shift = _shift(cell, baseline, axis, family, evidence)
            if isinstance(shift, Shift) and isinstance(family, Family):
                _fill(cell.row, axis, shift, family, note)
                steps = tuple(json.dumps(step, sort_keys=True) for step in cell.records[0]["steps"])
                placed.append(Placed(cell.row, axis, shift, family, steps))
            elif shift:
                cell.row[f"shift_{axis}_flags"] = f"none: {shift}"
    return placed


def _place(members: Members, cell: Cell, axis: str) -> tuple[tuple[Any, ...], str]:
    """Return the family's place to compare with: this very one; for counted axes, if none, another backend of this machine."""
    row = cell.row
    own = (row["family"], row["task"], *cell.place)
    if axis not in COUNTED or len(members.get(own, [])) > 1:
        return own, ""
    study, _, _, _, machine = cell.place
    others = [key for key in members if key[:3] == (*own[:2], study) and key[-1] == machine]
    best = max(others, key=lambda key: len(members[key]), default=own)
    return best, f"family on {best[3]}" if best[3] != row["backend"] else ""


def _family(members: list[Cell], column: str, evidence: Evidence) -> Family | str:
    measured = [cell for cell in members if cell.row[column]]
    points = [Point(cell.row[column], cell.error or 0.0, None, cell.error_by_seed) for cell in measured]
    try:
        return family_of(points, evidence.draws, evidence.seed)
    except RequestError as error:
        return str(error)


def _shift(cell: Cell, baseline: Cell, axis: str, family: Family | str, evidence: Evidence) -> Shift | str:
    """Return the shift, the reason why there is none, or "" where the axis was not measured."""
    row, column = cell.row, AXES[axis].column
    if not row[column] or not baseline.row[column] or cell.error is None or not baseline.scored:
        return ""
    if isinstance(family, str):
        return family
    mine, theirs = (_scaled(one, column, evidence) if axis in TIMED else None for one in (cell, baseline))
    seeds = list(cell.scored)
    against = [baseline.partner(seed) for seed in seeds]
    error = 1 - float(np.mean([record["quality"]["value"] for record in against]))
    both = cell.error_by_seed is not None and baseline.error_by_seed is not None
    draws = np.stack([1 - evidence.quality(record) for record in against]) if both else None
    variant = Point(row[column], cell.error, mine, cell.error_by_seed if both else None)
    return shift_of(family, variant, Point(baseline.row[column], error, theirs, draws), row["n_seeds"])


def _scaled(cell: Cell, column: str, evidence: Evidence) -> np.ndarray | None:
    """Return draws of a column that goes with time: those of the median time, times what one ms stands for."""
    times = evidence.times(cell.latency)
    return None if times is None else times * (cell.row[column] / cell.row["latency_ms_p50"])


def _fill(row: dict[str, Any], axis: str, shift: Shift, family: Family, note: str) -> None:
    reason = _not_measurable(family, shift.multiplier)
    name = f"shift_{axis}"
    if reason is None:
        _interval(row, name, shift.multiplier)
        _interval(row, f"{name}_gain", shift.gain, POINTS)
    vague = _not_measurable(family, shift.total)
    if vague is None:
        _interval(row, f"{name}_total", shift.total)
    row[f"{name}_stair"], row[f"{name}_over"] = shift.stair, shift.censored_over
    row[f"{name}_of_baseline"], row[f"{name}_dominates"] = shift.standing, shift.dominates
    told = [f"{NOT_MEASURABLE}: {reason}"] if reason else [f"no total: {vague}"] if vague else []
    row[f"{name}_flags"] = "; ".join([*told, *shift.flags, *([note] if note else [])])


def _interval(row: dict[str, Any], name: str, interval: Interval, unit: float = 1.0) -> None:
    row[name], row[f"{name}_low"], row[f"{name}_high"] = (
        unit * end for end in (interval.value, interval.low, interval.high)
    )


def _not_measurable(family: Family, interval: Interval) -> str | None:
    """Say why a shift is no number, or None."""
    if family.law.n < FEW:
        return f"the family has {family.law.n} members, a shift takes {FEW}"
    if family.law.x_high < LEAST_RANGE * family.law.x_low:
        return f"the family spans no more than a factor of {family.law.x_high / family.law.x_low:.2g} on this axis"
    if not family.law.significant:
        return "the slope of the family's law is not significant"
    if not interval.high <= MOST_SPAN * interval.low:
        return f"the 95 % interval spans more than a factor of {MOST_SPAN:.0f}"
    return None
