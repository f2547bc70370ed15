"""Which rows are beaten: by any other row in error and latency, by a plain dense model, and dense models by larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from efflab.comparison.draws import Evidence
from efflab.comparison.judging import Controls
from efflab.comparison.place import Place
from efflab.statistics import SAME_SESSION, Interval, control_fails, interval_of, speed_verdict

if TYPE_CHECKING:
    from efflab.comparison.row import Cell, Row

DENSE = ("baseline", "dense")


class Inversion(NamedTuple):
    """Two dense models of a family, of which the one with more MACs is surely faster, where both were timed."""

    larger: Row
    smaller: Row


def inversions(rows: list[Row]) -> list[Inversion]:
    """Return the widest inversion of each place: their time intervals are apart, by more than the noise floor."""
    members: dict[tuple[str | None, Place], list[tuple[int, Row]]] = {}
    noise: dict[tuple[str | None, Place], float] = {}
    for row in rows:
        place = (row.family, row.place)
        noise[place] = max(noise.get(place, SAME_SESSION), row.against.noise_floor or 0.0)
        if row.role in DENSE and row.family and row.work.macs and row.time.call_ms.known:
            members.setdefault(place, []).append((row.work.macs, row))
    found = []
    for place, dense in members.items():
        pairs = [
            (ratio, Inversion(larger, smaller))
            for most, larger in dense
            for least, smaller in dense
            if most > least and (ratio := _surely_slower(smaller, larger, noise[place]))
        ]
        if pairs:
            found.append(max(pairs, key=lambda pair: pair[0])[1])
    return found


def _surely_slower(one: Row, other: Row, noise: float) -> float:
    """Return how many times the time of another a row surely takes; 0 where that is not sure."""
    mine, theirs = one.time.call_ms, other.time.call_ms
    sure = theirs.high < mine.low and theirs.value * (1 + noise) < mine.value
    return mine.value / theirs.value if sure else 0.0


def fill_beaten(cells: list[Cell], evidence: Evidence, controls: Controls) -> None:
    """Name the dense model that has surely less error and is surely faster in the same group, the best if several."""
    dense: dict[tuple[Place, str], list[Cell]] = {}
    for cell in cells:
        if cell.row.role in DENSE and cell.latency and cell.error is not None and cell.error_draws is not None:
            dense.setdefault((cell.row.place, cell.latency["group"]), []).append(cell)
    for members in dense.values():
        members.sort(key=lambda cell: float(cell.error or 0.0))
    for cell in cells:
        if cell.row.role not in ("baseline", "variant", "control") or not cell.latency:
            continue
        session = (cell.row.place, cell.latency["group"])
        rivals, held = dense.get(session, []), controls.get(session, [])
        best = next((rival for rival in rivals if rival is not cell and _beats(rival, cell, evidence, held)), None)
        cell.row.against.beaten_by = best.row.variant if best else None


def _beats(rival: Cell, cell: Cell, evidence: Evidence, controls: list[Interval]) -> bool:
    if cell.error is None or rival.error is None or cell.error_draws is None or rival.error_draws is None:
        return False
    mine, theirs = cell.row.time.call_ms, rival.row.time.call_ms
    if rival.error >= cell.error or theirs.value >= mine.value:
        return False
    # the i-th draws of both errors hold the same examples
    if interval_of(cell.error - rival.error, cell.error_draws - rival.error_draws).low <= 0:
        return False
    assert cell.latency is not None
    assert rival.latency is not None
    speedup = evidence.speeds.speedup(cell.latency, rival.latency).interval
    return speed_verdict(speedup) == "faster" and not control_fails(controls, speedup)


def fill_pareto(rows: list[Row]) -> None:
    """Mark the rows that no other of the same task, backend, device, batch and machine beats in error and latency."""
    groups: dict[Place, list[tuple[float, float, Row]]] = {}
    for row in rows:
        error, call_ms = row.quality.error, row.time.call_ms
        if row.role != "repeat" and error.known and call_ms.known:
            groups.setdefault(row.place.across_studies(), []).append((call_ms.value, error.value, row))
    for group in groups.values():
        best, best_time = float("inf"), float("inf")
        for time, error_value, row in sorted(group, key=lambda one: one[:2]):
            row.pareto = error_value < best or (error_value == best and time == best_time)
            if error_value < best:
                best, best_time = error_value, time
