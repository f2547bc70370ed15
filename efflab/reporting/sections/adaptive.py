"""Models whose work depends on the input: what groups of examples cost and answer, and what of the saving the clock sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efflab.comparison.place import Place, place_of
from efflab.comparison.row import Row
from efflab.records.quality import SHARE, unit_of
from efflab.records.record import CostGroup, Record
from efflab.reporting.numbers import digits, quality_text, si
from efflab.reporting.section import Asked, Section
from efflab.reporting.table import ratio
from efflab.statistics import percentile_bound

ENDS = (10, 90)  # percentiles of MACs that are shown


def work_by_input(asked: Asked) -> Section | None:
    """Return which share of the validation examples costs what and is how often right, of each model that adapts."""
    found = _adaptive(asked)
    if not found:
        return None
    table, data = [], []
    for variant, record in found.items():
        groups = record["work"]["by_input"]
        low, high = (percentile(groups, percent) for percent in ENDS)
        base = _baseline_macs(asked, record)
        table.append(
            (
                variant, "; ".join(f"{100 * one['share']:.0f} % at {si(one['macs'])} ({_right(record, one['quality'])})"
                                   for one in groups),
                si(low), si(record["work"]["macs"]), si(high), f"{base / record['work']['macs']:.2f}x" if base else "",
            )
        )  # fmt: skip
        data.append(
            {
                "variant": variant, "seed": record["seed"], "groups": groups, "macs_p10": low,
                "macs_mean": record["work"]["macs"], "macs_p90": high, "baseline_macs": base,
            }
        )  # fmt: skip
    return Section(
        "adaptive", "Work that depends on the input",
        heads=("variant", "share of examples at MACs (quality)", "p10", "mean", "p90", "theory"),
        table=tuple(table), data=tuple(data),
        notes=("Counted one by one on validation examples, of the first seed; a group's quality is of its own examples, the easy "
               "ones where they leave early, and thresholds were chosen on them. theory = the baseline's MACs over the mean.",),
    )  # fmt: skip


def adaptive_time(asked: Asked) -> Section | None:
    """Return the times of models that adapt, and their speed-up at each batch size side by side."""
    names = _adaptive(asked)
    rows = [row for row in asked.rows if row.variant in names and row.against.speedup.known]
    if not rows:
        return None
    records = {
        (record["variant"], record["role"], place_of(record, asked.study["data"])): record
        for record in asked.study["records"]
        if "latency" in record
    }
    table, data = [], []
    for row in rows:
        record = records[row.variant, row.role, row.place]
        times = [time for one in record["latency"]["rounds_ms"] for time in one]
        middle, bound = float(np.median(times)), percentile_bound(times, 90)
        facts = {
            "variant": row.variant, "backend": row.place.backend, "batch_size": row.place.batch_size, "inputs": row.time.inputs,
            "latency_ms_p50": middle, "latency_ms_mean": row.time.call_ms.value, "latency_ms_p90": bound,
            "speedup": row.against.speedup.value, "speedup_low": row.against.speedup.low, "speedup_high": row.against.speedup.high,
            "verdict": row.against.speed_verdict, "theory": row.against.theory,
        }  # fmt: skip
        data.append(facts)
        table.append(
            (
                row.variant, row.place.words, digits(middle), digits(row.time.call_ms.value),
                "n/a" if bound is None else digits(bound),
                "" if row.against.theory is None else f"{row.against.theory:.2f}x",
                ratio(row.against.speedup), row.against.speed_verdict or "",
            )
        )  # fmt: skip
    return Section(
        "adaptive-time", "What of that saving the clock sees", sentences=tuple(_told(rows)),
        heads=("variant", "where", "p50 ms", "mean ms", "p90 ms", "theory", "speed-up", ""),
        table=tuple(table), data=tuple(data),
        notes=("Times go over many different batches; mean = over these, of each one's median, and the speed-up is of it: p50 "
               "shows the most frequent kind only. A batch ends with its dearest example, and each stage gets what is left.",),
    )  # fmt: skip


def _right(record: Record, quality: float) -> str:
    """Return the quality of a group of a record's examples."""
    unit = unit_of(record.get("quality", {}))
    return f"{100 * quality:.1f} %" if unit == SHARE else quality_text(quality, unit)


def percentile(groups: Sequence[CostGroup], percent: float) -> int:
    """Return the MACs that `percent` of the examples do not exceed."""
    seen = 0.0
    for group in groups:
        seen += group["share"]
        if seen >= percent / 100 - 1e-9:
            return group["macs"]
    return groups[-1]["macs"]


def _told(rows: list[Row]) -> list[str]:
    """Say of each variant and backend where the saving is seen, and where it vanishes."""
    by_place: dict[tuple[str, Place], list[Row]] = {}
    for row in rows:
        by_place.setdefault((row.variant, row.place.without_batch()), []).append(row)
    told = []
    for (variant, place), some in by_place.items():
        said = [f"{ratio(row.against.speedup)} at batch {row.place.batch_size}" for row in some]
        lost = [str(row.place.batch_size) for row in some if row.against.speed_verdict in ("slower", "no difference")]
        unclear = [str(row.place.batch_size) for row in some if row.against.speed_verdict == "undecided"]
        theory = some[0].against.theory or 1.0
        words = f"{variant} on {place.backend}: MACs promise {theory:.2f}x; the clock says {', '.join(said)}"
        if len(lost) == len(some):
            words += "; the saving is seen at no batch size"
        elif lost:
            words += f"; the saving vanishes at batch {', '.join(lost)}"
        if unclear:
            words += f"; too roughly timed to say at batch {', '.join(unclear)}"
        told.append(words + ".")
    return told


def _adaptive(asked: Asked) -> dict[str, Record]:
    """Return the first record of each variant whose work was counted by input."""
    found: dict[str, Record] = {}
    for record in asked.study["records"]:
        if record.get("work", {}).get("by_input") and record["role"] == "variant":
            found.setdefault(record["variant"], record)
    return found


def _baseline_macs(asked: Asked, record: Record) -> int | None:
    return next((one["work"]["macs"] for one in asked.study["records"]
                 if one["variant"] == record["of"] and "work" in one), None)  # fmt: skip
