"""One trial of a search, as its journal and its study keep it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from efflab.records.cost import CostRecord, Number

State = Literal["done", "stopped", "failed"]  # stopped: hopeless, told before its end

Point = dict[str, Any]  # dimension -> what was chosen: a place in its values, or a number of its range
BEST = "best"  # the variant that a search adds first


class Trial(TypedDict):
    """One trial: what was tried, how it ended, what was measured, and what it cost."""

    number: Annotated[int, Field(ge=0)]
    point: Point
    recipe: str  # in one line
    state: State
    why: str  # empty where it is done
    values: dict[str, float]  # on the validation split; of a stopped one, what was known then
    rung: NotRequired[Number]  # error when its training paused for a look
    cost: CostRecord  # of the stages that no trial before it had made
    stages: list[str]  # those stages
    paused: NotRequired[dict[str, CostRecord]]  # trainings that were stopped, and what they had cost
    quiet: NotRequired[bool]  # of a timed one: nothing else used the machine
    took_s: Number  # wall clock, its share of the batch
