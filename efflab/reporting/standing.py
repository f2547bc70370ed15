"""Where each row stands: its shift against the dense family, on MACs and on measured latency.

A shift is not measurable, and is not given as a number, where the law's slope is not significant or where the 95 %
interval spans more than a factor of 100. Where a larger dense model is faster than a smaller one it is flagged.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from efflab.errors import RequestError
from efflab.frontier.shift import Family, Point, Shift, family_of, shift_of
from efflab.reporting.dominance import place_of
from efflab.reporting.evidence import Evidence

if TYPE_CHECKING:
    from efflab.reporting.rows import Cell

MOST_SPAN = 100.0  # upper over lower end of an interval that still says something
NOT_MEASURABLE = "not measurable"
NOT_MONOTONIC = "times not monotonic in MACs"
AXES = {"macs": "macs", "latency": "latency_ms_p50"}
Members = dict[tuple[Any, ...], list["Cell"]]


def fill_shifts(
    cells: list[Cell], baselines: Members, evidence: Evidence, uneven: Collection[tuple[Any, ...]] = ()
) -> None:
    """Fill the shift columns of every variant and control that belongs to a family; flag those at `uneven` places."""
    members: Members = {}
    for cell in cells:
        if cell.row["role"] in ("baseline", "dense") and cell.row["family"] and cell.error is not None:
            members.setdefault((cell.row["family"], cell.row["task"], *cell.place), []).append(cell)
    fitted: dict[tuple[Any, ...], Family | str] = {}
    for cell in cells:
        of = cell.records[0]["of"]
        baseline = next(iter(baselines.get((of, *cell.place), [])), None)
        if cell.row["role"] not in ("variant", "control", "repeat") or cell.error is None or baseline is None:
            continue
        for axis, column in AXES.items():
            place, note = _place(members, cell, axis)
            if axis == "latency" and place_of(cell.row) in uneven:
                note = NOT_MONOTONIC
            if (axis, *place) not in fitted:
                fitted[(axis, *place)] = _family(members.get(place, []), column, evidence)
            _fill(cell, baseline, axis, fitted[(axis, *place)], note, evidence)


def _place(members: Members, cell: Cell, axis: str) -> tuple[tuple[Any, ...], str]:
    """Return the family's place to compare with: this very one; for MACs, if none, another backend of this machine."""
    row = cell.row
    own = (row["family"], row["task"], *cell.place)
    if axis == "latency" or len(members.get(own, [])) > 1:
        return own, ""
    study, _, _, _, machine = cell.place
    others = [key for key in members if key[:3] == (*own[:2], study) and key[-1] == machine]
    best = max(others, key=lambda key: len(members[key]), default=own)
    return best, f"family on {best[3]}" if best[3] != row["backend"] else ""


def _family(members: list[Cell], column: str, evidence: Evidence) -> Family | str:
    measured = [cell for cell in members if cell.row[column]]
    points = [Point(cell.row[column], cell.error or 0.0, None, cell.error_draws) for cell in measured]
    try:
        return family_of(points, evidence.draws, evidence.seed)
    except RequestError as error:
        return str(error)


def _fill(cell: Cell, baseline: Cell, axis: str, family: Family | str, note: str, evidence: Evidence) -> None:
    row, column = cell.row, AXES[axis]
    if not row[column] or not baseline.row[column] or cell.error is None or baseline.error is None:
        return
    latency = cell.latency if axis == "latency" else None
    times = evidence.medians(latency, len(latency["rounds_ms"])) if latency else None
    mine = Point(row[column], cell.error, times, cell.error_draws)
    theirs = Point(baseline.row[column], baseline.error)
    shift = family if isinstance(family, str) else shift_of(family, mine, theirs, row["n_seeds"])
    if isinstance(shift, str):
        row[f"shift_{axis}_flags"] = f"none: {shift}"
        return
    reason = _not_measurable(family, shift)
    if reason is None:
        row[f"shift_{axis}"] = shift.multiplier.value
        row[f"shift_{axis}_low"], row[f"shift_{axis}_high"] = shift.multiplier.low, shift.multiplier.high
    row[f"shift_{axis}_stair"], row[f"shift_{axis}_over"] = shift.stair, shift.censored_over
    row[f"shift_{axis}_of_baseline"] = shift.standing
    weak = [one for one in (f"{NOT_MEASURABLE}: {reason}" if reason else "", *shift.flags, note) if one]
    row[f"shift_{axis}_flags"] = "; ".join(weak)


def _not_measurable(family: Family | str, shift: Shift) -> str | None:
    """Say why a shift is no number, or None."""
    if isinstance(family, Family) and not family.law.significant:
        return "the slope of the family's law is not significant"
    if not shift.multiplier.high <= MOST_SPAN * shift.multiplier.low:
        return f"the 95 % interval spans more than a factor of {MOST_SPAN:.0f}"
    return None
