"""Which rows are beaten: by any other row in error and latency, by a plain dense model, and dense models by larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from efflab.comparison.draws import Evidence
from efflab.statistics import SAME_SESSION, interval_of, speed_verdict

if TYPE_CHECKING:
    from efflab.comparison.row import Cell

Row = dict[str, Any]
DENSE = ("baseline", "dense")


class Inversion(NamedTuple):
    """Two dense models of a family, of which the one with more MACs is surely faster, where both were timed."""

    larger: Row
    smaller: Row


def place_of(row: Row) -> tuple[Any, ...]:
    """Return what must be equal for two rows of a family to be comparable in time."""
    return tuple(row[name] for name in ("study", "family", "task", "backend", "device", "batch_size", "machine"))


def inversions(rows: list[Row]) -> list[Inversion]:
    """Return the widest inversion of each place: their time intervals are apart, by more than the noise floor."""
    members: dict[tuple[Any, ...], list[Row]] = {}
    noise: dict[tuple[Any, ...], float] = {}
    for row in rows:
        place = place_of(row)
        noise[place] = max(noise.get(place, SAME_SESSION), row["noise_floor"] or 0.0)
        if row["role"] in DENSE and row["family"] and row["macs"] and row["latency_ms_p50"]:
            members.setdefault(place, []).append(row)
    found = []
    for place, dense in members.items():
        pairs = [
            Inversion(larger, smaller)
            for larger in dense
            for smaller in dense
            if larger["macs"] > smaller["macs"]
            and larger["latency_ms_p50_high"] < smaller["latency_ms_p50_low"]
            and larger["latency_ms_p50"] * (1 + noise[place]) < smaller["latency_ms_p50"]
        ]
        if pairs:
            found.append(max(pairs, key=lambda pair: _ratio(pair.smaller, pair.larger)))
    return found


def _ratio(one: Row, other: Row) -> float:
    return float(one["latency_ms_p50"] / other["latency_ms_p50"])


def fill_beaten(cells: list[Cell], evidence: Evidence, noise: dict[tuple[Any, ...], float]) -> None:
    """Name the dense model that has surely less error and is surely faster in the same group, the best if several."""
    dense: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        if cell.row["role"] in DENSE and cell.latency and cell.error is not None and cell.error_draws is not None:
            dense.setdefault((cell.row["task"], *cell.place, cell.latency["group"]), []).append(cell)
    for members in dense.values():
        members.sort(key=lambda cell: float(cell.error or 0.0))
    for cell in cells:
        if cell.row["role"] not in ("baseline", "variant", "control") or not cell.latency:
            continue
        rivals = dense.get((cell.row["task"], *cell.place, cell.latency["group"]), [])
        floor = noise.get((*cell.place, cell.latency["group"]), 0.0)
        best = next((rival for rival in rivals if rival is not cell and _beats(rival, cell, evidence, floor)), None)
        cell.row["beaten_by"] = best.row["variant"] if best else None


def _beats(rival: Cell, cell: Cell, evidence: Evidence, noise: float) -> bool:
    if cell.error is None or rival.error is None or cell.error_draws is None or rival.error_draws is None:
        return False
    if rival.error >= cell.error or rival.row["latency_ms_p50"] >= cell.row["latency_ms_p50"]:
        return False
    # the i-th draws of both errors hold the same examples
    if interval_of(cell.error - rival.error, cell.error_draws - rival.error_draws).low <= 0:
        return False
    assert cell.latency is not None
    assert rival.latency is not None
    return speed_verdict(evidence.speedup(cell.latency, rival.latency), noise) == "faster"


def fill_pareto(rows: list[Row]) -> None:
    """Mark the rows that no other of the same task, backend, device, batch and machine beats in error and latency."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["role"] != "repeat" and row["error"] is not None and row["latency_ms_p50"] is not None:
            place = tuple(row[name] for name in ("task", "backend", "device", "batch_size", "machine"))
            groups.setdefault(place, []).append(row)
    for group in groups.values():
        best, best_time = float("inf"), float("inf")
        for row in sorted(group, key=lambda row: (row["latency_ms_p50"], row["error"])):
            tied = row["error"] == best and row["latency_ms_p50"] == best_time
            row["pareto"] = bool(row["error"] < best or tied)
            if row["error"] < best:
                best, best_time = row["error"], row["latency_ms_p50"]
