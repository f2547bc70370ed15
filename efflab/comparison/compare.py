"""Turns the records of studies into flat rows: one per (variant, backend, device, batch, machine), over its seeds.

A row is compared only with its baseline on the same backend, device, batch and machine, timed in the same group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from efflab.comparison.columns import USUAL_AXES
from efflab.comparison.dominance import fill_beaten, fill_pareto, inversions
from efflab.comparison.draws import Evidence, mean_error
from efflab.comparison.judging import judge
from efflab.comparison.place import Place, place_of
from efflab.comparison.row import Cell, Counted, Row, Timed
from efflab.comparison.shifts import Members, Placed, fill_shifts
from efflab.comparison.speeds import Speeds, Speedup
from efflab.frontier.cost import break_even
from efflab.records.quality import RULES, is_share, unit_of, units_in_one
from efflab.records.record import Latency, Record, keeps_promise, repeats
from efflab.records.study import Study
from efflab.statistics import Interval, interval_of, median_and_iqr, mix_seeds, percentile_bound


class Assessment(NamedTuple):
    """The rows of studies, and the shifts behind their columns with their draws."""

    rows: list[Row]
    placed: list[Placed]
    draws: int  # of the bootstrap behind every interval
    asked_tasks: bool  # whether code of a task had to be asked what scores mean


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
    baselines: Members = {}
    _share_scores(cells)
    for cell in cells:
        _fill_own(cell, evidence)
        if cell.row.role == "baseline":
            for name in {cell.row.variant, cell.row.baseline}:
                baselines.setdefault((name, cell.row.place), []).append(cell)
    speedups: list[tuple[Cell, Speedup]] = []
    cells_by_name = {(cell.row.variant, cell.row.place): cell for cell in cells}
    for cell in cells:
        of_cell = baselines.get((cell.row.of, cell.row.place), []) if cell.row.of else []
        if of_cell and cell.fine:
            _compare_quality(cell, of_cell[0], evidence)
            _compare_training(
                cell, cells_by_name.get((cell.records[0].get("trained_on", ""), cell.row.place)), evidence
            )
            _compare_work(cell.row, of_cell[0].row)
            speedups += _compare_speed(cell, of_cell[0], evidence.speeds)
    controls = judge(cells, speedups)
    found = [cell.row for cell in cells]
    uneven = {(inversion.larger.family, inversion.larger.place) for inversion in inversions(found)}
    placed = fill_shifts(cells, baselines, evidence, uneven, tuple(axes))
    fill_beaten(cells, evidence, controls)
    fill_pareto(found)
    return Assessment(found, placed, evidence.draws, evidence.asked_tasks)


def _cells(studies: list[Study]) -> list[Cell]:
    cells: dict[tuple[str, str, Place], Cell] = {}
    for index, study in enumerate(studies):
        for record in study["records"]:
            place = place_of(record, study["data"], index)
            key = (record["variant"], record["role"], place)
            if key not in cells:
                row = Row(
                    study=study["name"], place=place, variant=record["variant"], role=record["role"],
                    steps=tuple(name for step in record["steps"] for name in step), baseline=record["baseline"],
                    of=record["of"], family=record["family"],
                )  # fmt: skip
                cells[key] = Cell(row, [])
            cells[key].records.append(record)
    return list(cells.values())


def _share_scores(cells: list[Cell]) -> None:
    """Give every row the scored seeds of all its batch sizes: later seeds are scored at one batch size only."""
    pools: dict[tuple[str, str, Place], dict[int, Record]] = {}
    for cell in cells:
        cell.fine = [record for record in cell.records if record["status"] == "ok"]
        pool = pools.setdefault((cell.row.variant, cell.row.role, cell.row.place.without_batch()), {})
        for record in cell.fine:
            if "quality" in record:
                pool.setdefault(record["seed"], record)
        cell.scored = pool


def _fill_own(cell: Cell, evidence: Evidence) -> None:
    row = cell.row
    cell.timed = next((record for record in cell.fine if "latency" in record), None)
    lost = [record for record in cell.records if record["status"] != "ok"]
    row.n_seeds = len(cell.scored) if cell.fine else 0
    row.status = "ok" if cell.fine else lost[0]["status"]
    if lost:
        seeds = ", ".join(str(record["seed"]) for record in lost)
        row.reason = lost[0]["reason"] if not cell.fine else f"seed {seeds} {lost[0]['status']}: {lost[0]['reason']}"
    if not cell.fine:
        return
    first = cell.timed or cell.fine[0]
    if "work" in first:
        work = first["work"]
        row.work = Counted(
            work["macs"], work["effective_macs"], work["bit_operations"], work["params"], work["nonzero_params"],
            work["artefact_bytes"], work["coverage"],
        )  # fmt: skip
    if "recovery" in first:
        row.cost.recovery_macs = first["recovery"]["training_macs"]
        row.cost.recovery_s = first["recovery"]["seconds"]
    if "training" in first:
        row.cost.training_macs = first["training"]["training_macs"]
    scored = list(cell.scored.values())
    if scored:
        _fill_quality(cell, scored, evidence)
    warnings = (text for record in scored for step in record.get("fidelity", ()) for text in step["warnings"])
    row.reason = _joined(row.reason, *dict.fromkeys(warnings))
    if cell.latency:
        _fill_latency(row, cell.latency, evidence)


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _fill_quality(cell: Cell, scored: list[Record], evidence: Evidence) -> None:
    row, own = cell.row, cell.row.quality
    first = scored[0]["quality"]
    own.metric, own.unit = first["metric"], unit_of(first)
    own.value = float(np.mean([record["quality"]["value"] for record in scored]))
    own.others = {
        name: float(np.mean([record["quality"]["others"][name] for record in scored]))
        for name in first.get("others", {})
        if all(name in record["quality"].get("others", {}) for record in scored)
    }
    share = is_share(first)
    cell.error = mean_error(scored)
    own.error = Interval(cell.error, math.nan, math.nan)
    draws = np.stack([evidence.errors(record) for record in scored])
    if np.isfinite(draws).all():
        cell.error_by_seed, cell.error_draws = draws, np.clip(mix_seeds(draws, evidence.seed), 0, 1 if share else None)
        own.error = interval_of(cell.error, cell.error_draws)
        if share:
            own.ends = Interval(own.value, 1 - own.error.high, 1 - own.error.low)
        elif first["error_rule"] in RULES:
            own.ends = own.error
    why = "; ".join(dict.fromkeys(filter(None, map(evidence.lost, scored))))
    if why:
        row.reason = _joined(row.reason, f"no interval of the quality and no verdict on it, since {why}")
    promised = [record for record in scored if "promised" in record]
    if promised:
        own.promised = float(np.mean([record["promised"]["value"] for record in promised]))
        own.promise = "kept" if all(keeps_promise(record) for record in promised) else "broken"


def _fill_latency(row: Row, latency: Latency, evidence: Evidence) -> None:
    if "examples" in latency:
        row.reason = _joined(row.reason, repeats(latency["examples"]))
    samples, two = evidence.speeds.samples(latency), evidence.speeds.two_speeds(latency)
    if two:
        row.reason = _joined(row.reason, str(two))
    row.time = Timed(
        call_ms=evidence.speeds.call_interval(latency), starts=len(latency.get("starts", [0])),
        iqr_ms=median_and_iqr(samples)[1],
        p90_ms=percentile_bound(samples, 90), p95_ms=percentile_bound(samples, 95), p99_ms=percentile_bound(samples, 99),
        calls=len(samples), inputs=latency.get("inputs"), throughput_per_s=latency["throughput_per_s"],
        peak_memory_bytes=latency["peak_memory_bytes"], prepare_s=latency["prepare_s"], energy_j=latency["energy_j"],
        energy_method=latency["energy_method"], quiet=latency["quiet"], threads=latency["threads"],
    )  # fmt: skip


def _compare_quality(cell: Cell, baseline: Cell, evidence: Evidence) -> None:
    mine = list(cell.scored.values())
    if not baseline.scored or not mine:
        return
    against = cell.row.against
    against.difference = evidence.difference([(baseline.partner(record["seed"]), record) for record in mine])
    if not against.difference.bounded:
        return
    base = baseline.row.quality
    if "margin" in mine[0] and base.value is not None:
        # of a share the recipe's part of the quality, of a loss the same part of the error
        whole = base.value if is_share(mine[0]["quality"]) else base.error.value
        against.margin = mine[0]["margin"] * whole * units_in_one(base.unit)


def _compare_training(cell: Cell, control: Cell | None, evidence: Evidence) -> None:
    """Hold the quality of a row that trains against that of the baseline with the same training."""
    mine = list(cell.scored.values())
    if control and control.scored and mine:
        pairs = [(control.partner(record["seed"]), record) for record in mine]
        cell.row.against.beyond_training = evidence.difference(pairs)


def _compare_work(row: Row, base: Row) -> None:
    against, mine, theirs = row.against, row.work, base.work
    against.theory = _over(theirs.macs, mine.macs)
    against.theory_effective = _over(theirs.effective_macs, mine.effective_macs)
    against.theory_bits = _over(theirs.bit_operations, mine.bit_operations)
    against.size_ratio = _over(theirs.artefact_bytes, mine.artefact_bytes)
    if mine.macs and theirs.macs and row.cost.recovery_macs is not None:
        paid = break_even(row.cost.recovery_macs, theirs.macs, mine.macs)
        row.cost.break_even, row.cost.break_even_words = paid.inferences, paid.words


def _over(theirs: float | None, mine: float | None) -> float | None:
    return theirs / mine if mine and theirs else None


def _compare_speed(cell: Cell, baseline: Cell, speeds: Speeds) -> list[tuple[Cell, Speedup]]:
    """Hold a row's time against the baseline's in the same group, if both were timed there."""
    theirs = {record["latency"]["group"]: record["latency"] for record in baseline.fine if "latency" in record}
    mine = [record["latency"] for record in cell.fine if "latency" in record and record["latency"]["group"] in theirs]
    if not mine:
        return []
    row, against = cell.row, cell.row.against
    found = [speeds.speedup(theirs[one["group"]], one) for one in mine]  # the A/A row has one in each group
    speedup = found[0]
    against.speedup = speedup.interval
    if against.theory:
        against.realisation = speedup.interval.value / against.theory
    if row.cost.recovery_s is not None:
        before, after = (
            speeds.call_time(one) / 1000 / row.place.batch_size for one in (theirs[speedup.group], mine[0])
        )
        row.cost.break_even_time = break_even(row.cost.recovery_s, before, after, "seconds").inferences
    return [(cell, one) for one in found]
