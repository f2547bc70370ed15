"""What a model costs over its life: kept as it is, compressed, or replaced by a smaller dense model."""

from __future__ import annotations

from typing import Any

from efflab.comparison.row import Row
from efflab.frontier.cost import LifeCycle
from efflab.frontier.progress import constants
from efflab.reporting.headlines import best_of
from efflab.reporting.numbers import si
from efflab.reporting.section import Asked, Section

JOULES_PER_KWH = 3.6e6


def life(asked: Asked) -> Section | None:
    """Return the cost of so many inferences in MACs and in hours of this machine, against both alternatives."""
    n = asked.inferences
    moved = [row for row in asked.rows if row.role == "variant" and row.work.macs and row.time.call_ms.known]
    if not moved:
        return None
    best = best_of(asked.rows) or moved[0]
    here = [row for row in asked.rows if row.place == best.place and row.work.macs]
    dense = [row for row in here if row.role in ("dense", "baseline") and row.time.call_ms.known]
    table, data = [], []
    by_name = {one.variant: one for one in reversed(dense)}
    for row in (row for row in moved if row.place == best.place):
        base = by_name.get(row.baseline)
        if base is None:
            continue
        # the dense member with the fewest MACs that is at least as good: to be trained first, unless it is the baseline
        rival = min(
            (one for one in dense if one.quality.error.value <= row.quality.error.value),
            key=lambda one: one.work.macs or 0, default=None,
        )  # fmt: skip
        own = _macs(row, row.cost.recovery_macs, n)
        other = _macs(rival, 0.0 if rival is base else rival.cost.training_macs, n) if rival else None
        facts: dict[str, Any] = {
            "variant": row.variant, "inferences": n, "macs": own.total, "macs_kept": _macs(base, 0.0, n).total,
            "macs_dense": other.total if other else None, "against_dense": own.against(other) if other else None,
            "dense": rival.variant if rival else None, "hours": _hours(row, row.cost.recovery_s, n),
            "hours_kept": _hours(base, 0.0, n), "amortised_macs": own.amortised,
            "break_even": row.cost.break_even, "break_even_time": row.cost.break_even_time,
            "kg_co2": _kg_co2(row, row.cost.recovery_s, n), "kg_co2_kept": _kg_co2(base, 0.0, n),
        }  # fmt: skip
        data.append(facts)
        table.append(
            (row.variant, si(own.total), si(facts["macs_kept"]),
             _rival(rival, other, base),
             own.against(other) if other else "", row.cost.break_even_words or "",
             f"{facts['hours']:.3g}", f"{facts['hours_kept']:.3g}",
             _inferences(row.cost.break_even_time), _co2(facts["kg_co2"], facts["kg_co2_kept"]))
        )  # fmt: skip
    if not table:
        return None
    electricity = constants()["electricity"]["codecarbon-default"]
    methods = {str(row.time.energy_method) for row in moved if row.time.energy_method}
    return Section(
        "life", f"Over {si(n)} inferences, {best.place.words}",
        heads=("variant", "MACs, all", "baseline kept", "dense model as good, trained first", "against that",
               "MACs saved pay for the steps", "hours", "hours, baseline kept", "time saved pays, after inferences",
               "kg CO2; baseline kept"),
        table=tuple(table), data=tuple(data),
        notes=(f"MACs of the steps' training and of {si(n)} inferences; hours of this machine at this batch size, the steps' own "
               "time included. The baseline's training is spent in all cases; a dense model as good is the member with the "
               "fewest MACs among those at least as good. CO2, of the steps at the power that inference draws: "
               f"{'; '.join(sorted(methods)) or 'no energy'}; "
               f"constants codecarbon-default, {electricity['g_co2_per_kwh']:g} g a kWh ({electricity['source']}). "
               "Other numbers: `efflab report STUDY --inferences N`.",),
    )  # fmt: skip


def _macs(row: Row, once: float | None, n: float) -> LifeCycle:
    return LifeCycle(once or 0.0, float(row.work.macs or 0), n)


def _hours(row: Row, once_s: float | None, n: float) -> float:
    each = row.time.call_ms.value / 1000 / row.place.batch_size
    return LifeCycle(once_s or 0.0, each, n).total / 3600


def _rival(rival: Row | None, cost: LifeCycle | None, base: Row) -> str:
    if rival is None or cost is None:
        return "no dense member is as good"
    return f"{si(cost.total)} ({'the baseline itself' if rival is base else rival.variant})"


def _kg_co2(row: Row, once_s: float | None, n: float) -> float | None:
    if not row.time.energy_j:
        return None
    grams: float = constants()["electricity"]["codecarbon-default"]["g_co2_per_kwh"]
    watts = row.time.energy_j / (row.time.call_ms.value / 1000)
    joules = LifeCycle((once_s or 0.0) * watts, row.time.energy_j / row.place.batch_size, n).total
    return float(joules / JOULES_PER_KWH * grams / 1000)


def _inferences(value: float | None) -> str:
    return "never" if value is None else si(value) if value else "at once"


def _co2(own: float | None, kept: float | None) -> str:
    return "" if own is None or kept is None else f"{own:.3g}, {kept:.3g}"
