"""Settings that several pruning techniques share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Scope = Annotated[
    Literal["layer", "global"],
    Field(description="Where weights are ranked: within each layer (`layer`), or over all layers together (`global`)."),
]
WeightImportance = Annotated[
    Literal["magnitude", "random"],
    Field(
        description="Which weights become zero first: those of least magnitude (`magnitude`), or randomly chosen "
        "ones (`random`)."
    ),
]
GradientExamples = Annotated[
    int,
    Field(
        ge=1,
        le=1_000_000,
        description="Number of training examples for the gradients of importance `taylor`; unused otherwise.",
    ),
]
