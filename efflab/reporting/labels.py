"""Places text labels beside points so that none covers a point, a bar or another label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CHARACTER, LINE, MARK, GAP = 6.6, 13.0, 6.0, 4.0  # pixels: widths at font size 11, and the half size of a mark
FORBIDDEN = 1000.0
CROSSING = 30.0  # what a leader pays for each mark or label that it crosses


class Box(NamedTuple):
    """A rectangle in pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Return the area that two boxes share."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0


def place_labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], width: float, height: float, taken: Sequence[Box] = ()
) -> list[Box]:
    """Return a box for each label: the free place nearest to its point, inside the picture where there is one."""
    marks = [Box(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]
    blocked = [*marks, *taken]
    placed: list[Box] = []
    for number, ((x, y), text) in enumerate(zip(points, texts, strict=True)):
        others = [mark for index, mark in enumerate(marks) if index != number]
        best, least = None, float("inf")
        for candidate, far in _candidates(x, y, len(text) * CHARACTER):
            outside = max(0.0, -candidate.left, candidate.right - width, -candidate.top, candidate.bottom - height)
            covered = sum(candidate.overlap(other) for other in blocked)
            hidden = sum(candidate.overlap(other) for other in placed)
            # two texts on top of each other, or one cut off, are worse than any leader
            price = 50 * outside + 20 * (covered + hidden) + far + FORBIDDEN * (outside > 0) + FORBIDDEN * (hidden > 0)
            if price < least:
                price += CROSSING * _crossed(x, y, candidate, [*others, *placed])
            if price < least:
                best, least = candidate, price
        assert best is not None
        placed.append(best)
    return placed


def _crossed(x: float, y: float, box: Box, others: Sequence[Box]) -> int:
    """Return how many boxes the line from a point to its label crosses, where it needs one."""
    end_x, end_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    steps = int(max(abs(end_x - x), abs(end_y - y)) / 3)
    spots = [(x + (end_x - x) * i / steps, y + (end_y - y) * i / steps) for i in range(steps + 1)] if steps > 4 else []
    return sum(
        any(other.left < px < other.right and other.top < py < other.bottom for px, py in spots) for other in others
    )


def _candidates(x: float, y: float, wide: float) -> list[tuple[Box, float]]:
    found = []
    for ring in range(12):
        reach = MARK + GAP + ring * LINE * 0.8
        lefts = (x + reach, x - reach - wide, x - wide / 2, x + reach / 2, x - reach / 2 - wide)
        for rank, left in enumerate(lefts):
            # right and left of the point at its height on the first ring, then above and below, ever farther
            heights = (y,) if rank < 2 and ring == 0 else (y - reach - LINE / 4, y + reach + LINE / 4)
            for middle in heights:
                box = Box(left, middle - LINE / 2, left + wide, middle + LINE / 2)
                found.append((box, ring * 8.0 + rank))
    return found
