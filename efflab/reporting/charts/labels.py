"""Places text labels beside points so that none covers a point, a bar or another label."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from efflab.comparison.row import Row
from efflab.records.variant_name import variant_name

CHARACTER, LINE, MARK, GAP = 6.6, 13.0, 6.0, 4.0  # pixels: widths at font size 11, and the half size of a mark
LONGEST_LABEL = 60  # characters; as many as a panel is wide
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
    choices = [
        _choices(number, points[number], marks, text, (width, height), taken) for number, text in enumerate(texts)
    ]
    placed: dict[int, Box] = {}
    for _ in range(SETTLE):
        before = dict(placed)
        for number in range(len(texts)):
            placed.pop(number, None)
            placed[number] = _best_place(number, points, marks, choices[number], placed)
        if placed == before:
            break
    return [placed[number] for number in range(len(texts))]


def _choices(
    number: int,
    point: tuple[float, float],
    marks: Sequence[Box],
    text: str,
    size: tuple[float, float],
    taken: Sequence[Box],
) -> list[tuple[float, Box]]:
    """Return the places of a label with what each costs whatever the other labels do, the cheapest first."""
    found = _candidates(*point, len(text) * CHARACTER)
    # nearer to another mark than GAP, a label would be taken for that one's
    near = [
        Box(one.left - GAP, one.top - GAP, one.right + GAP, one.bottom + GAP)
        for index, one in enumerate(marks)
        if index != number
    ]
    blocked = np.array([marks[number], *near, *taken], float)
    boxes = np.array([box for box, _ in found], float)
    # all boxes against all that is in the way: a picture of many arrows has thousands of both
    wide = np.minimum(boxes[:, None, 2], blocked[None, :, 2]) - np.maximum(boxes[:, None, 0], blocked[None, :, 0])
    high = np.minimum(boxes[:, None, 3], blocked[None, :, 3]) - np.maximum(boxes[:, None, 1], blocked[None, :, 1])
    covered = (np.maximum(wide, 0) * np.maximum(high, 0)).sum(axis=1)
    beyond = np.stack([-boxes[:, 0], boxes[:, 2] - size[0], -boxes[:, 1], boxes[:, 3] - size[1]])
    outside = np.maximum(beyond.max(axis=0), 0)
    # one that is cut off is worse than any leader
    prices = 50 * outside + FORBIDDEN * (outside > 0) + 20 * covered + np.array([far for _, far in found])
    return [(float(prices[index]), found[index][0]) for index in np.argsort(prices, kind="stable")]


def _best_place(
    number: int, points: Sequence[tuple[float, float]], marks: Sequence[Box], choices: Sequence[tuple[float, Box]],
    placed: dict[int, Box],
) -> Box:  # fmt: skip
    x, y = points[number]
    others = np.array([*(mark for index, mark in enumerate(marks) if index != number), *placed.values()]).reshape(-1, 4)
    leaders = np.concatenate([np.empty((0, 2)), *(_leader(*points[index], box) for index, box in placed.items())])
    best, least = choices[0][1], float("inf")
    for price, candidate in choices:
        if price >= least:
            break
        hidden = sum(candidate.overlap(other) for other in placed.values())
        # two texts on top of each other are worse than any leader
        price += 20 * hidden + FORBIDDEN * (hidden > 0)
        if price < least:
            spots = _leader(x, y, candidate)
            crossed = _under(spots, others).any(axis=0).sum() + _under(leaders, np.array([candidate])).sum()
            gaps = spots[::2, None] - leaders[None, ::2]
            price += CROSSING * (float(crossed) + float(((gaps**2).sum(axis=2) < 9).sum()) / 2)
        if price < least:
            best, least = candidate, price
    return best


def _leader(x: float, y: float, box: Box) -> np.ndarray:
    """Return spots (n, 2) on the line from a point to its label; none where the label stands beside its point."""
    end_x, end_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    steps = int(max(abs(end_x - x), abs(end_y - y)) / 3)
    share = np.arange(steps + 1)[:, None] / steps if steps > 4 else np.empty((0, 1))
    line: np.ndarray = np.array([x, y]) + share * np.array([end_x - x, end_y - y])
    return line


def _under(spots: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether each spot lies under each box, shape (spots, boxes)."""
    px, py = spots[:, :1], spots[:, 1:]
    inside: np.ndarray = (boxes[:, 0] < px) & (px < boxes[:, 2]) & (boxes[:, 1] < py) & (py < boxes[:, 3])
    return inside


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


def short_names(rows: Sequence[Row]) -> list[str]:
    """Return the label of each row; dense models of one family go by what tells them apart, e.g. w16 and prune50@w16."""
    dense = [row.variant for row in rows if row.role in ("baseline", "dense")]
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*(name.split("-") for name in dense), strict=False))
    shared = "".join(f"{parts[0]}-" for parts in same) if len(dense) > 1 else ""
    names = []
    for row in rows:
        name = variant_name(row.variant)
        entry = name.entry.removeprefix(shared) if row.role in ("baseline", "dense") else name.entry
        text = str(name._replace(entry=entry, baseline=name.baseline.removeprefix(shared)))
        names.append(text if len(text) <= LONGEST_LABEL else f"{text[:LONGEST_LABEL]}...")
    return names
