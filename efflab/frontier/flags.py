"""What makes a shift or a law weak: each kind with its words, and what is to be added in one case."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class FlagKind(Enum):
    """A kind of weakness; its value are the words for it."""

    NO_SHIFT = "none"
    NOT_MEASURABLE = "not measurable"
    NO_TOTAL = "no total"
    EXTRAPOLATED = "extrapolated"
    CENSORED = "censored"
    SINGLE_SEED = "single seed"
    SMALL_FAMILY = "small family"
    SLOPE = "slope not significant"
    OTHER_BACKEND = "family on"
    NOT_MONOTONIC = "times not monotonic in MACs"


BEFORE_A_REASON = (FlagKind.NO_SHIFT, FlagKind.NOT_MEASURABLE, FlagKind.NO_TOTAL)


class Flag(NamedTuple):
    """One weakness, with what is to be said beside its words."""

    kind: FlagKind
    detail: str = ""

    def __str__(self) -> str:
        parted = ": " if self.kind in BEFORE_A_REASON else " " if self.detail else ""
        return f"{self.kind.value}{parted}{self.detail}"
