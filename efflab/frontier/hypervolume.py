"""Hypervolume of a frontier: the area that its points dominate, in powers of ten of compute times powers of ten of error."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

Pair = tuple[float, float]  # compute in any unit, error as a fraction


class Reference(NamedTuple):
    """The corner up to which area counts: a largest compute and a largest error; it must be stored with every number."""

    compute: float
    error: float


def reference_of(family: Iterable[Pair]) -> Reference:
    """Return the corner of a dense family: its largest compute and its largest error."""
    computes, errors = zip(*family, strict=True)
    return Reference(max(computes), max(errors))


def hypervolume(points: Iterable[Pair], reference: Reference) -> float:
    """Return the area in dex^2 that points dominate below `reference`; points beyond it, or not above zero, count nothing.

    Zitzler and Thiele 1998: with the non-dominated points by rising compute, each contributes a rectangle to the next one.
    """
    corner_x, corner_y = math.log10(reference.compute), math.log10(reference.error)
    inside = sorted(
        (math.log10(compute), math.log10(error))
        for compute, error in points
        if 0 < compute <= reference.compute and 0 < error <= reference.error
    )
    area, height = 0.0, corner_y
    for x, y in inside:
        if y < height:
            area += (corner_x - x) * (height - y)
            height = y
    return area


def hypervolume_change(family: Iterable[Pair], variants: Iterable[Pair], reference: Reference) -> float:
    """Return how much area variants add to that of a family, in dex^2; never negative."""
    family = list(family)
    return hypervolume([*family, *variants], reference) - hypervolume(family, reference)
