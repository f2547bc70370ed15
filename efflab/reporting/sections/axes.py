"""The shift of every variant on every axis of compute."""

from __future__ import annotations

from collections import Counter

from efflab.comparison.columns import AXES
from efflab.comparison.row import Row
from efflab.reporting.headlines import best_of
from efflab.reporting.section import Asked, Section
from efflab.reporting.table import difference, heading_of, shift, unit_of_difference


def axes(asked: Asked) -> Section | None:
    """Return the table of M by axis, at the place of the first headline or of most variants."""
    moved = [row for row in asked.rows if row.role in ("variant", "control", "repeat") and row.quality.error.known]
    if not moved:
        return None
    counts = Counter(row.place for row in moved)
    best = best_of(asked.rows) or max(moved, key=lambda row: counts[row.place])
    here = [row for row in moved if row.place == best.place]
    shown = [name for name in AXES if any(row.shift(name).flags is not None for row in here)]
    if not shown:
        return None
    table = tuple(
        (
            row.variant,
            f"{difference(row)} {unit_of_difference(row)}".rstrip(),
            *(shift(row, name) or "none" for name in shown),
            _dominates(row),
        )
        for row in here
    )
    notes = [
        "M: how many times the compute the technique is worth: saving x (error / baseline's)**-power of the dense family's "
        "law on that axis; 1 is no shift, below 1 moving along the law gives more. All rows, axes, gains and staircases: "
        "shifts.csv.",
        "P(no worse, no slower): share of bootstrap draws in which the variant has at most the baseline's error and time, and "
        "truly less of one.",
        "Axes without a number have a reason in shifts.csv; energy is an estimate unless its column says measured.",
    ]
    return Section(
        "axes", f"Shift on every axis, {best.place.words}",
        heads=("variant", heading_of("quality_difference", here), *(f"M, {AXES[name].words}" for name in shown),
               "P(no worse, no slower)"),
        table=table, notes=tuple(notes),
    )  # fmt: skip


def _dominates(row: Row) -> str:
    value = row.shift("latency").dominates
    return "" if value is None else f"{value:.2f}"
