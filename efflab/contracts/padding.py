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


class PaddedLengths(Settings):
    """One length for all examples, or a few lengths for batches: runtimes that compile one shape then have few of them."""

    fixed: Annotated[Length | None, Field(description="Number of tokens to which every text is padded or cut.")] = None
    buckets: Annotated[
        Annotated[list[Length], Field(min_length=1, max_length=32)] | None,
        Field(description="Lengths, ascending; a batch is padded to the next of them."),
    ] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.fixed is None) == (self.buckets is None):
            raise ValueError("give either fixed or buckets")
        if any(one >= other for one, other in pairwise(self.buckets or ())):
            raise ValueError("buckets must ascend")
        return self


Padding = Annotated[
    Literal["longest"] | PaddedLengths,
    Field(
        description="Length to which texts are padded: the batch's longest (`longest`), N tokens (`fixed: N`), or the next "
        "of a few (`buckets: [32, 64]`)."
    ),
]


def fixed_length(padding: Any) -> int | None:
    """Return the one length of all examples, None where lengths differ."""
    return padding.fixed if isinstance(padding, PaddedLengths) else None


def most_tokens(padding: Any, limit: int) -> int:
    """Return how many tokens an example may have under a padding, at most `limit`."""
    if not isinstance(padding, PaddedLengths):
        return limit
    return min(limit, padding.fixed or (padding.buckets or [limit])[-1])


def padded_length(padding: Any, lengths: Sequence[int]) -> int:
    """Return the length to which a batch of examples of these lengths is padded."""
    longest = max(lengths)
    if not isinstance(padding, PaddedLengths):
        return longest
    return padding.fixed or next((one for one in padding.buckets or () if one >= longest), longest)


def padded(rows: Sequence[np.ndarray], length: int, fill: int) -> np.ndarray:
    """Return rows of whole numbers as one array (rows, length), each filled up at its end."""
    import numpy as np

    found = np.full((len(rows), length), fill, np.int64)
    for index, row in enumerate(rows):
        found[index, : len(row)] = row
    return found
