"""Places text labels beside points so that none covers a point, a bar or another label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

CHARACTER, LINE, MARK, GAP = 6.6, 13.0, 6.0, 4.0  # pixels: widths at font size 11, and the half size of a mark
FORBIDDEN = 1000.0
CROSSING = 30.0  # what a leader pays for each mark or label that it crosses
SETTLE = 4  # rounds of placing


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
    """Return a box for each label: the free place nearest to its point, inside the picture where there is one.

    Labels are placed one by one, and then again, as often as SETTLE says, each where the others leave the best place.
    """
    marks = [Box(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]
    placed: dict[int, Box] = {}
    for _ in range(SETTLE):
        before = dict(placed)
        for number, text in enumerate(texts):
            placed.pop(number, None)
            placed[number] = _best_place(number, points, marks, text, placed, (width, height), taken)
        if placed == before:
            break
    return [placed[number] for number in range(len(texts))]


def _best_place(
    number: int, points: Sequence[tuple[float, float]], marks: Sequence[Box], text: str, placed: dict[int, Box],
    size: tuple[float, float], taken: Sequence[Box],
) -> Box:  # fmt: skip
    x, y = points[number]
    others = [mark for index, mark in enumerate(marks) if index != number]
    # nearer to another mark than GAP, a label would be taken for that one's
    near = [Box(one.left - GAP, one.top - GAP, one.right + GAP, one.bottom + GAP) for one in others]
    blocked = [marks[number], *near, *taken]
    leaders = [spot for index, box in placed.items() for spot in _leader(*points[index], box)]
    best, least = None, float("inf")
    for candidate, far in _candidates(x, y, len(text) * CHARACTER):
        outside = max(0.0, -candidate.left, candidate.right - size[0], -candidate.top, candidate.bottom - size[1])
        hidden = sum(candidate.overlap(other) for other in placed.values())
        # two texts on top of each other, or one cut off, are worse than any leader
        price = 50 * outside + 20 * hidden + far + FORBIDDEN * (outside > 0) + FORBIDDEN * (hidden > 0)
        if price < least:
            price += 20 * sum(candidate.overlap(other) for other in blocked)
        if price < least:
            spots = _leader(x, y, candidate)
            price += CROSSING * (_crossed(spots, [*others, *placed.values()]) + _under(leaders, candidate))
            price += CROSSING * sum(math.dist(one, other) < 3 for one in spots[::2] for other in leaders[::2]) / 2
        if price < least:
            best, least = candidate, price
    assert best is not None
    return best


def _leader(x: float, y: float, box: Box) -> list[tuple[float, float]]:
    """Return spots on the line from a point to its label; none where the label stands beside its point."""
    end_x, end_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    steps = int(max(abs(end_x - x), abs(end_y - y)) / 3)
    return [(x + (end_x - x) * i / steps, y + (end_y - y) * i / steps) for i in range(steps + 1)] if steps > 4 else []


def _crossed(spots: Sequence[tuple[float, float]], others: Sequence[Box]) -> int:
    """Return how many boxes a leader crosses."""
    return sum(_under(spots, other) > 0 for other in others)


def _under(spots: Sequence[tuple[float, float]], box: Box) -> int:
    return sum(box.left < px < box.right and box.top < py < box.bottom for px, py in spots)


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


def short_names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the label of each row; dense models of one family go by what tells them apart, e.g. w16."""
    dense = [row["variant"] for row in rows if row["role"] in ("baseline", "dense")]
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*(name.split("-") for name in dense), strict=False))
    shared = "".join(f"{parts[0]}-" for parts in same) if len(dense) > 1 else ""
    return [
        row["variant"].removeprefix(shared) if row["role"] in ("baseline", "dense") else row["variant"] for row in rows
    ]
