"""The `measure` section of a recipe: on what, how long, and with which seeds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from efflab.cards.card import MOST_SEED
from efflab.profiling.latency import LeastSeconds, MostSeconds, Pace, Rounds, Runs
from efflab.recipe.backend_choice import BackendEntry

MOST_BATCH = 4096  # examples in one call


class Measure(Pace):
    """What is measured, how long, and the non-inferiority margin, fixed before anything is seen."""

    backends: Annotated[list[BackendEntry], Field(min_length=1)] = ["torch"]
    batch_sizes: Annotated[list[Annotated[int, Field(ge=1, le=MOST_BATCH)]], Field(min_length=1)] = [1, 64]
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=MOST_SEED)]], Field(min_length=1)] = [0]
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.01  # share of the baseline's metric
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None  # of a latency session; default: all processors
    min_runs: Annotated[Runs, Field(ge=11)] = (
        130  # here and in `rounds`, more than the harness needs for its own checks
    )
    min_seconds: LeastSeconds = 0.5
    max_seconds: MostSeconds = 5.0
    rounds: Annotated[Rounds, Field(ge=5)] = 20
    controls: bool = True

    @field_validator("batch_sizes", "seeds")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        if len(set(values)) != len(values):
            raise ValueError("a value is given twice")
        return values
