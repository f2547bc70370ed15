"""Where each row stands: its shift against the dense family, on every axis of compute.

A shift is not measurable, and is not given as a number, where the family has fewer than five members or hardly differs in
compute, the law's slope is not significant, or the 95 % interval spans more than a factor of 100. Where a larger dense model
is faster than a smaller one it is flagged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from efflab.comparison.columns import AXES, Axis
from efflab.comparison.draws import Evidence, mean_error
from efflab.comparison.place import Place
from efflab.comparison.row import AxisShift, Row
from efflab.foundation.errors import RequestError
from efflab.frontier.fit import FEW
from efflab.frontier.flags import Flag, FlagKind
from efflab.frontier.shift import Family, Point, Shift, family_of, shift_of, without_draws
from efflab.records.quality import is_share, units_in_one
from efflab.statistics import UNKNOWN, Interval

if TYPE_CHECKING:
    from efflab.comparison.row import Cell

MOST_SPAN = 100.0  # upper over lower end of an interval that still says something
LEAST_RANGE = 1.5  # largest over least compute of a family on which error may be held against compute at all
TIMED = ("latency", "energy")  # axes on which a larger model that is faster breaks the order
COUNTED = ("macs", "bits")  # axes that a backend does not change: its family may have been counted on another one
DRAWN = ("macs", "latency")  # axes whose draws are compared further; those of the others would take most of the memory
Members = dict[tuple[str | None, Place], list["Cell"]]  # models of a name, or of a family, at each place


class Placed(NamedTuple):
    """The shift of one row on one axis, and the family that it was held against."""

    row: Row
    axis: str
    shift: Shift
    family: Family
    steps: tuple[str, ...]  # with their settings, as JSON


def fill_shifts(
    cells: list[Cell], baselines: Members, evidence: Evidence, uneven: Collection[tuple[str | None, Place]],
    axes: Iterable[str],
) -> list[Placed]:  # fmt: skip
    """Fill the shifts of every variant and control that belongs to a family; flag those of families that are `uneven`."""
    members: Members = {}
    for cell in cells:
        if cell.row.role in ("baseline", "dense") and cell.row.family and cell.error is not None:
            members.setdefault((cell.row.family, cell.row.place), []).append(cell)
    fitted: dict[tuple[str, str | None, Place], Family | str] = {}
    placed = []
    trained = {(cell.row.variant, cell.row.place): cell for cell in cells if cell.row.role in ("variant", "control")}
    for cell in cells:
        row = cell.row
        baseline = next(iter(baselines.get((row.of, row.place), [])), None)
        if row.role not in ("variant", "control", "repeat") or cell.error is None or baseline is None:
            continue
        for name in axes:
            (kin, place), notes = _family_place(members, row, name)
            if name in TIMED and (row.family, row.place) in uneven:
                notes = [Flag(FlagKind.NOT_MONOTONIC)]
            if (name, kin, place) not in fitted:
                fitted[(name, kin, place)] = _family(members.get((kin, place), []), AXES[name], evidence)
            family = fitted[(name, kin, place)]
            shift = _shift(cell, baseline, name, family, evidence)
            control = trained.get((cell.records[0].get("trained_on", ""), row.place))
            beyond = _shift(cell, control, name, family, evidence) if control else ""
            if isinstance(shift, Shift) and isinstance(family, Family):
                told = _told(shift, family, notes, units_in_one(row.quality.unit))
                if isinstance(beyond, Shift) and told.shift.known:
                    told = replace(told, beyond=beyond.multiplier)
                row.shifts[name] = told
                steps = tuple(json.dumps(step, sort_keys=True) for step in cell.records[0]["steps"])
                placed.append(Placed(row, name, shift if name in DRAWN else without_draws(shift), family, steps))
            elif isinstance(shift, str) and shift:
                row.shifts[name] = AxisShift(flags=(Flag(FlagKind.NO_SHIFT, shift),))
    return placed


def _family_place(members: Members, row: Row, axis: str) -> tuple[tuple[str | None, Place], list[Flag]]:
    """Return the family's place to compare with: this very one; for counted axes, if none, another backend of this machine."""
    own = (row.family, row.place)
    if axis not in COUNTED or len(members.get(own, [])) > 1:
        return own, []
    others = [key for key in members if (key[0], key[1].counted()) == (row.family, row.place.counted())]
    best = max(others, key=lambda key: len(members[key]), default=own)
    other = best[1].backend
    return best, [Flag(FlagKind.OTHER_BACKEND, other)] if other != row.place.backend else []


def _family(members: list[Cell], axis: Axis, evidence: Evidence) -> Family | str:
    points = [
        Point(compute, cell.error or 0.0, None, cell.error_by_seed)
        for cell in members
        if (compute := axis.of(cell.row))
    ]
    share = all(is_share(record["quality"]) for cell in members for record in cell.scored.values())
    try:
        return family_of(points, evidence.draws, evidence.seed, 1.0 if share else math.inf)
    except RequestError as error:
        return str(error)


def _shift(cell: Cell, baseline: Cell, axis: str, family: Family | str, evidence: Evidence) -> Shift | str:
    """Return the shift, the reason why there is none, or "" where the axis was not measured."""
    compute, before = (AXES[axis].of(one.row) for one in (cell, baseline))
    if not compute or not before or cell.error is None or not baseline.scored:
        return ""
    if isinstance(family, str):
        return family
    mine, theirs = (
        _scaled(one, value, evidence) if axis in TIMED else None for one, value in ((cell, compute), (baseline, before))
    )
    seeds = list(cell.scored)
    against = [baseline.partner(seed) for seed in seeds]
    error = mean_error(against)
    both = cell.error_by_seed is not None and baseline.error_by_seed is not None
    draws = np.stack([evidence.errors(record) for record in against]) if both else None
    variant = Point(compute, cell.error, mine, cell.error_by_seed if both else None)
    return shift_of(family, variant, Point(before, error, theirs, draws), cell.row.n_seeds)


def _scaled(cell: Cell, compute: float, evidence: Evidence) -> np.ndarray | None:
    """Return draws of compute that goes with time: those of the median time, times what one ms stands for."""
    times, call_ms = evidence.speeds.call_times(cell.latency) if cell.latency else None, cell.row.time.call_ms
    return None if times is None else times * (compute / call_ms.value)


def _told(shift: Shift, family: Family, notes: list[Flag], unit: float) -> AxisShift:
    """Return what a row says of a shift: no number where it is not measurable."""
    reason, vague = (_not_measurable(family, interval) for interval in (shift.multiplier, shift.total))
    weak = [Flag(FlagKind.NOT_MEASURABLE, reason)] if reason else [Flag(FlagKind.NO_TOTAL, vague)] if vague else []
    gain = Interval(*(unit * end for end in (shift.gain.value, shift.gain.low, shift.gain.high)))
    return AxisShift(
        shift=UNKNOWN if reason else shift.multiplier, total=UNKNOWN if vague else shift.total, of_baseline=shift.standing,
        stair=shift.stair, over=shift.censored_over, gain=UNKNOWN if reason else gain, dominates=shift.dominates,
        flags=(*weak, *shift.flags, *notes),
    )  # fmt: skip


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
