"""What a finished search adds to its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from efflab.recipe.variants import Variant
from efflab.records.cost import CostRecord
from efflab.records.trial import Trial


@dataclass(frozen=True)
class Found:
    """A finished search: its trials, and the variants that it adds to the recipe."""

    trials: tuple[Trial, ...]
    variants: tuple[Variant, ...]  # the best first; dense models that stand for themselves are not among them
    numbers: Mapping[str, int]  # variant -> its trial
    front: tuple[int, ...]  # every trial that none beats, the best first
    cost: CostRecord  # of all trials and of the trainings of the cards that they started from
