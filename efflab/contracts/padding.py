"""Padding: how sequences of different lengths become one array."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from efflab.foundation.config import Settings

if TYPE_CHECKING:
    import numpy as np

Length = Annotated[int, Field(ge=2, le=100_000)]


class FixedLength(Settings):
    """Pad all examples to one length."""

    fixed: Annotated[Length, Field(description="Number of tokens to which every text is padded or cut.")]


class LengthBuckets(Settings):
    """Pad each batch to the next of a few lengths, so that runtimes which compile one shape have few of them."""

    buckets: Annotated[
        list[Length],
        Field(min_length=1, max_length=32, description="Lengths, ascending; a batch is padded to the next of them."),
    ]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if any(one >= other for one, other in pairwise(self.buckets)):
            raise ValueError("buckets must ascend")
        return self


Padding = Annotated[
    Literal["longest"] | FixedLength | LengthBuckets,
    Field(
        description="To what length a batch of texts is padded: its own longest text (`longest`), always N tokens "
        "(`fixed: N`), or the next of a few lengths (`buckets: [32, 64]`)."
    ),
]


def most_tokens(padding: Any, limit: int) -> int:
    """Return how many tokens an example may have under a padding, at most `limit`."""
    if isinstance(padding, FixedLength):
        return min(limit, padding.fixed)
    return min(limit, padding.buckets[-1]) if isinstance(padding, LengthBuckets) else limit


def padded_length(padding: Any, lengths: Sequence[int]) -> int:
    """Return the length to which a batch of examples of these lengths is padded."""
    longest = max(lengths)
    if isinstance(padding, FixedLength):
        return padding.fixed
    if isinstance(padding, LengthBuckets):
        return next((one for one in padding.buckets if one >= longest), longest)
    return longest


def padded(rows: Sequence[np.ndarray], length: int, fill: int) -> np.ndarray:
    """Return rows of whole numbers as one array (rows, length), each filled up at its end."""
    import numpy as np

    found = np.full((len(rows), length), fill, np.int64)
    for index, row in enumerate(rows):
        found[index, : len(row)] = row
    return found
