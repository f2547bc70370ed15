"""Turns the records of studies into flat rows: one per (variant, backend, device, batch, machine), over its seeds.

A row is compared only with its baseline on the same backend, device, batch and machine, timed in the same group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from efflab.comparison.columns import COLUMNS, USUAL_AXES
from efflab.comparison.dominance import fill_beaten, fill_pareto, inversions, place_of
from efflab.comparison.draws import POINTS, Evidence
from efflab.comparison.row import IDENTITY, Cell, Row
from efflab.comparison.shifts import Placed, fill_shifts
from efflab.frontier.cost import break_even
from efflab.records.record import Latency, Record, keeps_promise, repeats
from efflab.records.study import Study
from efflab.statistics import (
    interval_of,
    median_and_iqr,
    mix_seeds,
    percentile_bound,
    quality_verdict,
    speed_verdict,
)


class Assessment(NamedTuple):
    """The rows of studies, and the shifts behind their columns with their draws."""

    rows: list[Row]
    placed: list[Placed]
    draws: int  # of the bootstrap behind every interval


def rows(studies: Study | Sequence[Study], axes: Iterable[str] = USUAL_AXES) -> list[Row]:
    """Return the rows of one study or several, in the order of their records; every row has all columns.

    Shifts are filled on these axes only.
    """
    return assess(studies, axes).rows


def assess(studies: Study | Sequence[Study], axes: Iterable[str] = USUAL_AXES, draws: int | None = None) -> Assessment:
    """Return rows and shifts; `draws` of the bootstrap, by default as many as keep large tables quick."""
    listed: list[Study] = [studies] if isinstance(studies, dict) else list(studies)
    evidence = Evidence((record for study in listed for record in study["records"]), draws=draws)
    cells = _cells(listed)
    baselines: dict[tuple[Any, ...], list[Cell]] = {}
    _share_scores(cells)
    for cell in cells:
        _fill_own(cell, evidence)
        if cell.row["role"] == "baseline":
            for name in {cell.row["variant"], cell.row["baseline"]}:
                baselines.setdefault((name, *cell.place), []).append(cell)
    noise: dict[tuple[Any, ...], float] = {}
    for cell in sorted(cells, key=lambda cell: cell.row["role"] != "repeat"):
        of = cell.records[0]["of"]
        of_cell = baselines.get((of, *cell.place), []) if of else []
        if of_cell and cell.fine:
            _compare_quality(cell, of_cell[0], evidence)
            _compare_work(cell, of_cell[0])
            _compare_speed(cell, of_cell[0], evidence, noise)
    found = [cell.row for cell in cells]
    uneven = {place_of(inversion.larger) for inversion in inversions(found)}
    placed = fill_shifts(cells, baselines, evidence, uneven, tuple(axes))
    fill_beaten(cells, evidence, noise)
    fill_pareto(found)
    return Assessment(found, placed, evidence.draws)


def _cells(studies: list[Study]) -> list[Cell]:
    cells: dict[tuple[Any, ...], Cell] = {}
    for index, study in enumerate(studies):
        for record in study["records"]:
            key = (
                index, record["variant"], record["role"], record["backend"], record["device"], record["batch_size"],
                record["machine"],
            )  # fmt: skip
            if key not in cells:
                row: Row = dict.fromkeys(COLUMNS)
                row["study"] = study["name"]
                row.update({name: record[name] for name in IDENTITY})  # type: ignore[literal-required]
                row["of"] = record["of"]
                row["steps"] = " + ".join(name for step in record["steps"] for name in step)
                cells[key] = Cell(index, row, [])
            cells[key].records.append(record)
    return list(cells.values())


def _share_scores(cells: list[Cell]) -> None:
    """Give every row the scored seeds of all its batch sizes: later seeds are scored at one batch size only."""
    pools: dict[tuple[Any, ...], dict[int, Record]] = {}
    for cell in cells:
        cell.fine = [record for record in cell.records if record["status"] == "ok"]
        row = cell.row
        key = (cell.study, *(row[name] for name in ("variant", "role", "backend", "device", "machine")))
        pool = pools.setdefault(key, {})
        for record in cell.fine:
            if "quality" in record:
                pool.setdefault(record["seed"], record)
        cell.scored = pool


def _fill_own(cell: Cell, evidence: Evidence) -> None:
    row = cell.row
    cell.timed = next((record for record in cell.fine if "latency" in record), None)
    lost = [record for record in cell.records if record["status"] != "ok"]
    row["n_seeds"] = len(cell.scored) if cell.fine else 0
    row["status"] = "ok" if cell.fine else lost[0]["status"]
    if lost:
        seeds = ", ".join(str(record["seed"]) for record in lost)
        row["reason"] = lost[0]["reason"] if not cell.fine else f"seed {seeds} {lost[0]['status']}: {lost[0]['reason']}"
    if not cell.fine:
        return
    first = cell.timed or cell.fine[0]
    row.update({name: value for name, value in first.get("work", {}).items() if name in COLUMNS})
    if "recovery" in first:
        row["recovery_macs"] = first["recovery"]["training_macs"]
        row["recovery_s"] = first["recovery"]["seconds"]
    if "training" in first:
        row["training_macs"] = first["training"]["training_macs"]
    scored = list(cell.scored.values())
    if scored:
        row["metric"] = scored[0]["quality"]["metric"]
        row["quality"] = float(np.mean([record["quality"]["value"] for record in scored]))
        row["error"] = cell.error = 1 - row["quality"]
        draws = 1 - np.stack([evidence.quality(record) for record in scored])
        if np.isfinite(draws).all():
            cell.error_by_seed, cell.error_draws = draws, np.clip(mix_seeds(draws, evidence.seed), 0, 1)
            interval = interval_of(row["error"], cell.error_draws)
            row["error_low"], row["error_high"] = interval.low, interval.high
        why = "; ".join(dict.fromkeys(filter(None, map(evidence.lost, scored))))
        if why:
            no_interval = f"no interval of the quality and no verdict on it, since {why}"
            row["reason"] = "; ".join(filter(None, [row["reason"], no_interval]))
        _fill_promise(row, scored)
    warnings = (text for record in scored for step in record.get("fidelity", ()) for text in step["warnings"])
    row["reason"] = "; ".join(filter(None, [row["reason"], *dict.fromkeys(warnings)]))
    if cell.latency:
        _fill_latency(row, cell.latency, evidence)


def _fill_promise(row: Row, scored: list[Record]) -> None:
    promised = [record for record in scored if "promised" in record]
    if promised:
        row["promised"] = float(np.mean([record["promised"]["value"] for record in promised]))
        row["promise"] = "kept" if all(keeps_promise(record) for record in promised) else "broken"


def _fill_latency(row: Row, latency: Latency, evidence: Evidence) -> None:
    if "examples" in latency:
        row["reason"] = "; ".join(filter(None, [row["reason"], repeats(latency["examples"])]))
    samples = evidence.samples(latency)
    row["latency_n"] = len(samples)
    row["latency_ms_p50"], row["latency_ms_iqr"] = evidence.call_time(latency), median_and_iqr(samples)[1]
    interval = interval_of(row["latency_ms_p50"], evidence.call_times(latency, len(latency["rounds_ms"])))
    row["latency_ms_p50_low"], row["latency_ms_p50_high"] = interval.low, interval.high
    for percentile in (90, 95, 99):
        row[f"latency_ms_p{percentile}"] = percentile_bound(samples, percentile)
    row.update({name: value for name, value in latency.items() if name in COLUMNS})


def _compare_quality(cell: Cell, baseline: Cell, evidence: Evidence) -> None:
    mine = list(cell.scored.values())
    if not baseline.scored or not mine:
        return
    pairs = [(baseline.partner(record["seed"]), record) for record in mine]
    interval, row = evidence.difference(pairs), cell.row
    row["quality_difference"] = interval.value
    if math.isnan(interval.low):
        return
    row["quality_difference_low"], row["quality_difference_high"] = interval.low, interval.high
    if "margin" in mine[0]:
        row["margin"] = mine[0]["margin"] * baseline.row["quality"] * POINTS
    verdict = quality_verdict(interval, row["margin"])
    row["quality_verdict"] = {"not worse than the margin": "within margin"}.get(verdict, verdict)


def _compare_work(cell: Cell, baseline: Cell) -> None:
    row, base = cell.row, baseline.row
    if row["macs"] and base["macs"]:
        row["theoretical_speedup"] = base["macs"] / row["macs"]
    if row["effective_macs"] and base["effective_macs"]:
        row["theoretical_speedup_effective"] = base["effective_macs"] / row["effective_macs"]
    if row["bit_operations"] and base["bit_operations"]:
        row["theoretical_speedup_bits"] = base["bit_operations"] / row["bit_operations"]
    if row["artefact_bytes"] and base["artefact_bytes"]:
        row["size_ratio"] = base["artefact_bytes"] / row["artefact_bytes"]
    if row["macs"] and base["macs"] and row["recovery_macs"] is not None:
        paid = break_even(row["recovery_macs"], base["macs"], row["macs"])
        row["break_even"], row["break_even_words"] = paid.inferences, paid.words


def _compare_speed(cell: Cell, baseline: Cell, evidence: Evidence, noise: dict[tuple[Any, ...], float]) -> None:
    mine = cell.latency
    timed = [r["latency"] for r in baseline.fine if "latency" in r and mine and r["latency"]["group"] == mine["group"]]
    if not mine or not timed:
        return
    theirs, row = timed[0], cell.row
    interval = evidence.speedup(theirs, mine)
    row["speedup"], row["speedup_low"], row["speedup_high"] = interval.value, interval.low, interval.high
    place = (*cell.place, mine["group"])
    if row["role"] == "repeat":
        noise[place] = max(noise.get(place, 0.0), math.exp(abs(math.log(interval.value))) - 1)
        row["speed_verdict"] = speed_verdict(interval)
    else:
        row["noise_floor"] = noise.get(place)
        row["speed_verdict"] = speed_verdict(interval, noise.get(place, 0.0))
    if row["theoretical_speedup"]:
        row["realisation"] = interval.value / row["theoretical_speedup"]
    if row["recovery_s"] is not None:
        before, after = (evidence.call_time(one) / 1000 / row["batch_size"] for one in (theirs, mine))
        row["break_even_time"] = break_even(row["recovery_s"], before, after, "seconds").inferences
