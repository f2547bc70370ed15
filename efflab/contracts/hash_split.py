"""Splits of one file or folder: each example goes to a split by a hash of its content."""

from __future__ import annotations

import hashlib
from typing import Annotated, Self

from pydantic import Field, model_validator

from efflab.contracts.task import SplitName
from efflab.foundation.config import Settings


class Shares(Settings):
    """How many of the examples of one file go to each split."""

    train: Annotated[float, Field(ge=0, lt=1, description="Share of the examples that models are trained on.")] = 0.7
    validation: Annotated[float, Field(gt=0, lt=1, description="Share of the examples by which choices are made.")] = (
        0.1
    )
    test: Annotated[float, Field(gt=0, lt=1, description="Share of the examples that models are scored on.")] = 0.2

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("the shares of train, validation and test must add up to 1")
        return self


def split_of(content: str, shares: Shares) -> SplitName:
    """Return the split of an example by a hash of its content: more data moves no example, and equal ones stay together."""
    place = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") / 2**64
    if place < shares.test:
        return "test"
    return "validation" if place < shares.test + shares.validation else "train"
