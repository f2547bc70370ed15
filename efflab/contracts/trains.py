"""The contract of a technique that trains: one section `training`, and what one call of its training is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from efflab.contracts.technique import Technique
from efflab.contracts.training_section import Optimizer, StepTraining
from efflab.foundation.progress import Report
from efflab.records.cost import Cost

MEANING = "Budget and schedule of the training; its keys may also stand beside it, as in `finetune: {epochs: 2}`, a short form."


@dataclass(frozen=True)
class TrainingRun:
    """One call of a training: what is no setting of it."""

    seed: int = 0
    checkpoint: Path | None = None  # progress is saved here, and an interrupted call goes on from it
    pause: float | None = None  # the share of its steps from which on it pauses; None: where `pause_at` asked for it
    device: str | None = None  # cpu or cuda; None: as EFFLAB_TRAIN_ON says
    report: Report = lambda done, total, note: None
    cost: Cost = field(default_factory=Cost)  # what was spent so far
    optimizer: Optimizer = "sgd"  # by which the baseline was trained

    def spent(self, cost: Cost) -> Cost:
        """Add a cost to what was spent, and return it."""
        self.cost.add(cost)
        return cost


class Trains(Technique):
    """A technique that trains; `usual` is what of the section `training` is the technique's own, where a recipe says nothing."""

    random: ClassVar[bool] = True
    short_form: ClassVar[str] = "training"
    misplaced: ClassVar[Mapping[str, str]] = StepTraining.misplaced
    usual: ClassVar[Mapping[str, Any]] = {}

    training: Annotated[StepTraining, Field(description=MEANING)] = StepTraining()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.training = Field(StepTraining(**cls.usual), description=MEANING)

    @model_validator(mode="before")
    @classmethod
    def _one_section(cls, given: Any) -> Any:
        """Bring keys that stand beside `training` into it, and fill in what is usual."""
        if not isinstance(given, Mapping):
            return given
        section = given.get("training", {})
        if isinstance(section, StepTraining):
            section = section.model_dump(include=set(StepTraining.model_fields), exclude_unset=True)
        rest = {key: value for key, value in given.items() if key not in StepTraining.model_fields}
        if not isinstance(section, Mapping):
            return {**rest, "training": section}
        beside = {key: value for key, value in given.items() if key in StepTraining.model_fields}
        twice = next((key for key in beside if key in section), None)
        if twice:
            what = "{key} is given in `training` and beside it; leave one out"
            raise PydanticCustomError("given_twice", what, {"key": twice})
        return {**rest, "training": {**cls.usual, **section, **beside}}

    def epochs_of_training(self) -> float:
        """Return how many passes over the training split it makes."""
        return self.training.epochs

    def rate_of_training(self) -> float:
        """Return the highest learning rate of its training."""
        return self.training.learning_rate
