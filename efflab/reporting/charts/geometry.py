"""Places things in a panel: values as pixels on log axes, arrows between marks, and boxes along lines."""

from __future__ import annotations

import math

from efflab.comparison.columns import Axis
from efflab.comparison.row import Row
from efflab.reporting.charts.labels import Box

Arrow = tuple[float, float, float, float]  # from x, y to x, y in pixels


class Scale:
    """A log axis in pixels, with room around the values; people see `factor` times a value, under `title`."""

    def __init__(
        self, values: list[float], length: float, flip: bool, room: tuple[float, float] = (0.08, 0.08),
        factor: float = 1.0, title: str = "",
    ):  # fmt: skip
        self.factor, self.title = factor, title
        low, high = math.log10(min(values)), math.log10(max(values))
        span = max(high - low, 0.1)
        self.low, self.high = low - room[0] * span, high + room[1] * span
        self.length, self.flip = length, flip

    @property
    def domain(self) -> list[float]:
        """The values at both ends."""
        return [10**self.low, 10**self.high]

    def shown(self, value: float) -> float:
        """Return a value as people see it."""
        return self.factor * value

    def pixel(self, value: float) -> float:
        """Return where a value lies."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.length * (1 - share if self.flip else share)

    def value(self, pixel: float) -> float:
        """Return the value at a place."""
        share = 1 - pixel / self.length if self.flip else pixel / self.length
        return float(10 ** (self.low + share * (self.high - self.low)))


def ticks(low: float, high: float, factor: float = 100.0) -> list[float]:
    """Return round numbers between two errors; people see `factor` times an error."""
    steps = [mantissa * 10.0**power for power in range(-6, 3) for mantissa in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)]
    inside = [step for step in steps if factor * low <= step <= factor * high]
    return inside if len(inside) <= 9 else [step for step in inside if str(step)[0] in "125"]


def compute(row: Row, axis: Axis) -> float:
    """Return what a row that is drawn takes on an axis."""
    return axis.of(row) or 0.0


def arrows_of(moved: list[Row], dense: list[Row], axis: Axis, x: Scale, y: Scale) -> list[Arrow]:
    """Return arrows from the dense model that each variant started from to it, stopping short of both marks."""
    base = {row.baseline: row for row in dense if row.role in ("baseline", "dense")}
    arrows = []
    for row in moved:
        start = base.get(row.baseline)
        if start is None:
            continue
        ax, ay = x.pixel(compute(start, axis)), y.pixel(start.quality.error.value)
        dx, dy = x.pixel(compute(row, axis)) - ax, y.pixel(row.quality.error.value) - ay
        length = math.hypot(dx, dy)
        if length >= 30:
            near, far = 6 / length, 1 - 9 / length
            arrows.append((ax + near * dx, ay + near * dy, ax + far * dx, ay + far * dy))
    return arrows


def along(start_x: float, start_y: float, end_x: float, end_y: float) -> list[Box]:
    """Return small boxes along a line, which labels then avoid."""
    steps = max(1, int(math.hypot(end_x - start_x, end_y - start_y) / 6))
    spots = [
        (start_x + (end_x - start_x) * i / steps, start_y + (end_y - start_y) * i / steps) for i in range(steps + 1)
    ]
    return [Box(px - 1.5, py - 1.5, px + 1.5, py + 1.5) for px, py in spots]
