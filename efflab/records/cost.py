"""Work that was spent to get somewhere, as records hold it, and its sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import Field
from typing_extensions import TypedDict

Number = Annotated[float, Field(ge=0)]  # finite, as everything that is measured


class CostRecord(TypedDict):
    """Work spent to get here."""

    training_macs: Number
    seconds: Number
    hardware_burden_flop: Number


COST = ("training_macs", "seconds", "hardware_burden_flop")


def summed(costs: Iterable[Any]) -> CostRecord:
    """Return the sum of records of work spent."""
    every = list(costs)
    total: Any = {key: float(sum(cost[key] for cost in every)) for key in COST}
    return cast(CostRecord, total)


def less(cost: Any, part: Any) -> CostRecord:
    """Return what is left of work spent without a part of it; never below 0."""
    rest: Any = {key: float(max(0.0, cost[key] - part.get(key, 0.0))) for key in COST}
    return cast(CostRecord, rest)


@dataclass
class Cost:
    """Recovery work of a step: forward-and-backward MACs, seconds, and the paper's hardware burden in FLOP."""

    training_macs: float = 0.0
    seconds: float = 0.0
    hardware_burden_flop: float = 0.0

    def add(self, part: Cost) -> None:
        """Add what a part of the work cost."""
        self.training_macs += part.training_macs
        self.seconds += part.seconds
        self.hardware_burden_flop += part.hardware_burden_flop
