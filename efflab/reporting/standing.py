"""Where each row stands: its shift against the dense family, on MACs and on measured latency, and dominance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from efflab.errors import RequestError
from efflab.frontier.shift import Family, Point, family_of, shift_of
from efflab.reporting.evidence import Evidence

if TYPE_CHECKING:
    from efflab.reporting.rows import Cell

AXES = {"macs": "macs", "latency": "latency_ms_p50"}
Members = dict[tuple[Any, ...], list["Cell"]]


def fill_shifts(cells: list[Cell], baselines: Members, evidence: Evidence) -> None:
    """Fill the shift columns of every variant and control that belongs to a family."""
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
    row[f"shift_{axis}"] = shift.multiplier.value
    row[f"shift_{axis}_low"], row[f"shift_{axis}_high"] = shift.multiplier.low, shift.multiplier.high
    row[f"shift_{axis}_stair"], row[f"shift_{axis}_over"] = shift.stair, shift.censored_over
    row[f"shift_{axis}_standing"] = shift.standing
    row[f"shift_{axis}_flags"] = "; ".join([*shift.flags, *([note] if note else [])])


def fill_pareto(cells: list[Cell]) -> None:
    """Mark the rows that no other of the same task, backend, device, batch and machine beats in error and latency."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        row = cell.row
        if row["role"] != "repeat" and row["error"] is not None and row["latency_ms_p50"] is not None:
            groups.setdefault((row["task"], *cell.place[1:]), []).append(row)
    for group in groups.values():
        best, best_time = float("inf"), float("inf")
        for row in sorted(group, key=lambda row: (row["latency_ms_p50"], row["error"])):
            tied = row["error"] == best and row["latency_ms_p50"] == best_time
            row["pareto"] = bool(row["error"] < best or tied)
            if row["error"] < best:
                best, best_time = row["error"], row["latency_ms_p50"]
