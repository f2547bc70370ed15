"""Hypervolume of a frontier: the area that its points dominate, in powers of ten of compute times powers of ten of error."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

Pair = tuple[float, float]  # compute in any unit, error as a fraction


class Corner(NamedTuple):
    """The corner up to which area counts: a largest compute and a largest error; it must be stored with every number."""

    compute: float
    error: float


def corner_of(family: Iterable[Pair]) -> Corner:
    """Return the corner of a dense family: its largest compute and its largest error."""
    computes, errors = zip(*family, strict=True)
    return Corner(max(computes), max(errors))


def hypervolume(points: Iterable[Pair], corner: Corner) -> float:
    """Return the area in dex^2 that points dominate below `corner`; points beyond it, or not above zero, count nothing.

    Zitzler and Thiele 1998: with the non-dominated points by rising compute, each contributes a rectangle to the next one.
    """
    corner_x, corner_y = math.log10(corner.compute), math.log10(corner.error)
    inside = sorted(
        (math.log10(compute), math.log10(error))
        for compute, error in points
        if 0 < compute <= corner.compute and 0 < error <= corner.error
    )
    area, height = 0.0, corner_y
    for x, y in inside:
        if y < height:
            area += (corner_x - x) * (height - y)
            height = y
    return area


def hypervolume_change(family: Iterable[Pair], variants: Iterable[Pair], corner: Corner) -> float:
    """Return how much area variants add to that of a family, in dex^2; never negative."""
    family = list(family)
    return hypervolume([*family, *variants], corner) - hypervolume(family, corner)
