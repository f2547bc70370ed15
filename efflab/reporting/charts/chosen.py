"""Chooses what a panel draws of a great many rows: more marks than people can tell apart make a slow picture."""

from __future__ import annotations

from efflab.comparison.row import Row

MOST_MARKS = 300  # of variants, and of dense models


def foremost(moved: list[Row], most: int) -> list[Row]:
    """Return the variants to be told apart: those that no other beats first, then the rest, controls last."""
    ordered = sorted(moved, key=lambda row: (row.role == "control", not row.pareto))[:most]
    chosen = {id(row) for row in ordered}
    return [row for row in moved if id(row) in chosen]


def spread(dense: list[Row], most: int) -> list[Row]:
    """Return dense models, evenly out of a great many, and the baselines among them."""
    step = -(-len(dense) // most) if dense else 1
    return [row for place, row in enumerate(dense) if place % step == 0 or row.role == "baseline"]


def left_out(moved: list[Row], dense: list[Row]) -> list[str]:
    """Say how many of the rows a panel draws, where these are not all."""
    counts = ((len(moved), "variants"), (len(dense), "dense models"))
    told = [f"{MOST_MARKS} of {count:,} {what}" for count, what in counts if count > MOST_MARKS]
    return [f"drawn: {', '.join(told)}"] if told else []
