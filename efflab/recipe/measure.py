"""The `measure` section of a recipe: on what, how long, and with which seeds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from efflab.cards.card import MOST_SEED
from efflab.profiling.pace import LeastSeconds, MostSeconds, Pace, Processes, Rounds, Runs
from efflab.recipe.backend_choice import BackendEntry

MOST_BATCH = 4096  # examples in one call


class Measure(Pace):
    """What is measured, how long, and the non-inferiority margin, fixed before anything is seen."""

    backends: Annotated[
        list[BackendEntry],
        Field(
            min_length=1,
            description="Backends on which every model is scored and timed, each with its settings if it has any.",
        ),
    ] = ["torch"]
    batch_sizes: Annotated[
        list[Annotated[int, Field(ge=1, le=MOST_BATCH)]],
        Field(min_length=1, description="Numbers of examples in one timed call; models are timed at each of them."),
    ] = [1, 64]
    seeds: Annotated[
        list[Annotated[int, Field(ge=0, le=MOST_SEED)]],
        Field(
            min_length=1,
            description="Seeds with which each variant is made and scored; only the model of the first seed is timed.",
        ),
    ] = [0]
    margin: Annotated[
        float,
        Field(
            gt=0,
            lt=0.5,
            description="Loss of quality that still counts as not worse, as a share of the baseline's metric.",
        ),
    ] = 0.01
    threads: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | None,
        Field(description="Number of processor threads of a timed model; all processors by default."),
    ] = None
    # the least `min_runs` and `rounds` are more than the harness needs for its own checks
    min_runs: Annotated[
        Runs,
        Field(
            ge=11,
            description="Least number of timed calls of each model, unless `max_seconds` ends the timing earlier.",
        ),
    ] = 130
    min_seconds: Annotated[
        LeastSeconds, Field(description="Least total time of the timed calls of each model, in seconds.")
    ] = 0.5
    max_seconds: Annotated[
        MostSeconds,
        Field(description="Total time of the timed calls of a model after which its timing ends, in seconds."),
    ] = 5.0
    rounds: Annotated[
        Rounds,
        Field(ge=5, description="Planned number of rounds of timed calls; all models take turns in each round."),
    ] = 20
    processes: Annotated[
        Processes,
        Field(
            description="Number of processes in which each model is timed, one after the other; intervals of its speed "
            "cover how they differ."
        ),
    ] = 5
    controls: Annotated[
        bool,
        Field(
            description="Also measure the controls: the dense family, variants with random choices, and the baseline "
            "a second time."
        ),
    ] = True

    @field_validator("batch_sizes", "seeds")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        if len(set(values)) != len(values):
            raise ValueError("a value is given twice")
        return values
