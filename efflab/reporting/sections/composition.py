"""Do techniques compose? M of A then B against M of A times M of B."""

from __future__ import annotations

from typing import Any

import numpy as np

from efflab.comparison.columns import AXES
from efflab.comparison.shifts import Placed
from efflab.frontier.shift import MOST_DEX
from efflab.reporting.section import Asked, Section, ends, multiplier, tally
from efflab.statistics import Interval, interval_of

SHOWN = ("macs", "latency")


def composition(asked: Asked) -> Section | None:
    """Return the ratio of the measured shift of two techniques in turn to the product of their own, with its interval."""
    found = []
    for whole, first, second in _triples(asked.assessment.placed):
        logs = whole.shift.logs - first.shift.logs - second.shift.logs
        value = np.log10(whole.shift.multiplier.value) - sum(
            np.log10(one.shift.multiplier.value) for one in (first, second)
        )
        found.append(
            (
                whole,
                first,
                second,
                interval_of(float(10**value), 10 ** np.clip(logs.astype(float), -MOST_DEX, MOST_DEX)),
            )
        )
    if not found:
        return None
    table, data = [], []
    for whole, first, second, ratio in found:
        facts: dict[str, Any] = {
            "variant": whole.row.variant, "first": first.row.variant, "second": second.row.variant,
            "axis": whole.axis, "backend": whole.row.place.backend, "batch_size": whole.row.place.batch_size,
            "measured": ends(whole.shift.multiplier), "product": first.shift.multiplier.value * second.shift.multiplier.value,
            "ratio": ends(ratio), "verdict": _verdict(ratio),
        }  # fmt: skip
        data.append(facts)
        table.append(
            (
                f"{first.row.variant}, then {second.row.variant}", AXES[whole.axis].words,
                whole.row.place.words if whole.axis == "latency" else "all",
                multiplier(whole.shift.multiplier), f"{facts['product']:.2f}x", multiplier(ratio), facts["verdict"],
            )
        )  # fmt: skip
    told = tally(one["verdict"] for one in data)
    return Section(
        "composition", "Composition", sentences=(f"Of {len(data)} compositions measured here: {told}.",),
        heads=("what", "axis", "where", "M measured", "product of both", "ratio", ""), table=tuple(table), data=tuple(data),
        notes=("Ratio 1: the two multiply. Below 1: together they give less than their product.",),
    )  # fmt: skip


def _verdict(ratio: Interval) -> str:
    if ratio.high < 1:
        return "less than the product"
    return "more than the product" if ratio.low > 1 else "no difference from the product"


def _triples(placed: list[Placed]) -> list[tuple[Placed, Placed, Placed]]:
    """Return (A then B, A, B) for all rows whose steps are those of two other rows in turn, at the same place."""
    at: dict[Any, Placed] = {
        (one.axis, one.row.baseline, one.row.place, one.steps): one
        for one in placed
        if one.row.role == "variant" and one.axis in SHOWN
    }
    # counted work does not depend on the place: one of them is enough
    seen = set()
    triples = []
    for (axis, baseline, place, steps), whole in at.items():
        for cut in range(1, len(steps)):
            first, second = (at.get((axis, baseline, place, part)) for part in (steps[:cut], steps[cut:]))
            key = (axis, steps, baseline, place if axis == "latency" else place.counted())
            if first and second and key not in seen:
                seen.add(key)
                triples.append((whole, first, second))
    return triples
