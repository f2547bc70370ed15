"""Says which channels go: how many of each group of coupled channels, and which."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from torch import Tensor

LEAST_SHARE = 0.1  # of a group's channels stay when groups are ranked together, so that no layer vanishes
Group = TypeVar("Group", bound=Hashable)
Scores = Mapping[Group, tuple[Tensor, int]]  # group -> (scores of one block's channels, blocks that are sliced alike)


def drops_of(
    scores: Scores[Group],
    first: Mapping[Group, int],
    ratio: float,
    round_to: int = 1,
    kinds: Mapping[Group, object] | None = None,
) -> dict[Group, list[int]]:
    """Return which channels of each group go, as positions among those now left, so that `ratio` of `first` are gone.

    kinds: groups of equal kind are ranked together; None ranks each group by itself.
    """
    keep = {group: first[group] * (1 - ratio) for group in scores}
    if kinds is not None:
        apart: dict[object, dict[Group, tuple[Tensor, int]]] = {}
        for group, one in scores.items():
            apart.setdefault(kinds[group], {})[group] = one
        for alike in apart.values():
            keep |= _share_out(alike, first, ratio)
    drops = {}
    for group, (values, blocks) in scores.items():
        now, step = len(values), -(-round_to // blocks)
        left = min(now, max(step, int(keep[group] / blocks / step + 0.5 + 1e-9) * step))
        if left < now:
            positions = values.argsort(stable=True)[: now - left].sort().values.tolist()
            drops[group] = [block * now + position for block in range(blocks) for position in positions]
    return drops


def _share_out(scores: Scores[Group], first: Mapping[Group, int], ratio: float) -> dict[Group, float]:
    """Rank all channels together and return how many each group keeps."""
    keep = {group: float(len(values) * blocks) for group, (values, blocks) in scores.items()}
    excess = sum(keep.values()) - (1 - ratio) * sum(first[group] for group in scores)
    every = [(float(value), group, blocks) for group, (values, blocks) in scores.items() for value in values]
    for _, group, blocks in sorted(every, key=lambda one: (one[0], str(one[1]))):
        if excess < blocks:
            break
        if keep[group] - blocks >= max(1.0, LEAST_SHARE * first[group]):
            keep[group] -= blocks
            excess -= blocks
    return keep
