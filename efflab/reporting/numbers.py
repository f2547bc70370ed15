"""Writes numbers with the digits that their intervals support, and that show which side of a limit they lie on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from efflab.records.quality import SHARE

MOST_RATIO = 1000.0
MOST_PLACES = 6


def decimals(low: float, high: float) -> int:
    """Return how many decimals an interval supports: down to the first digit of its half width."""
    half = (high - low) / 2
    return 2 if half <= 0 or not math.isfinite(half) else min(3, max(0, -math.floor(math.log10(half))))


def places_of(low: float, high: float, limits: Sequence[float], least: int = 0) -> int:
    """Return the decimals to write an interval with: what it supports, and more until it is seen to exclude a limit."""
    places = max(decimals(low, high), least)
    while places < MOST_PLACES and not all(_seen(low, high, limit, places) for limit in limits):
        places += 1
    return places


def _seen(low: float, high: float, limit: float, places: int) -> bool:
    return not (low > limit >= round(low, places)) and not (high < limit <= round(high, places))


def fixed(value: float, places: int, sign: str = "") -> str:
    """Return a number with fixed decimals; what rounds to zero has no sign."""
    return f"{0:.{places}f}" if round(value, places) == 0 else f"{value:{sign}.{places}f}"


def ratio_text(value: float, low: float, high: float) -> str:
    """Return a ratio with its interval: 1.03x [1.01, 1.27]; ends beyond 1,000 are no knowledge and not spelt out."""
    if not high < MOST_RATIO:
        return (
            f"{value:.1f}x [{low:.1f}, no upper limit]" if low >= 0.05 else f"{value:.1f}x [{low:.1g}, no upper limit]"
        )
    places = places_of(low, high, (1,), 1 if value < 10 else 0)
    shown = [f"{one:.{places}f}" if round(one, places) or not one else f"{one:.1g}" for one in (value, low, high)]
    return f"{shown[0]}x [{shown[1]}, {shown[2]}]"


def points_text(value: float, low: float, high: float, margin: float | None = None) -> str:
    """Return a difference in points with its interval, seen to lie beyond 0 or within the margin where it does."""
    places = places_of(low, high, (0,), 1)
    while margin is not None and places < MOST_PLACES and (low > -margin) != (round(low, places) > -margin):
        places += 1
    return f"{fixed(value, places, '+')} [{fixed(low, places, '+')}, {fixed(high, places, '+')}]"


def si(value: float, unit: str = "") -> str:
    """Return a value with three digits and an SI prefix: 40.8 M; beyond the prefixes with its power of ten."""
    if abs(value) >= 9.995e20:
        return f"{value:.2e} {unit}".rstrip()
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:#.3g}".rstrip(".") + f" {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def digits(value: float, unit: str = "") -> str:
    """Return a value with three significant digits, or as a whole number from 1,000 on."""
    return f"{value:#.3g}".rstrip(".") + unit if abs(value) < 1000 else f"{value:,.0f}{unit}"


def quality_text(value: float, unit: str) -> str:
    """Return a quality or an error as people read it: a share as per cent, a loss as a number."""
    return f"{100 * value:.2f} %" if unit == SHARE else digits(value)
