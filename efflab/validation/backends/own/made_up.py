"""Makes up inputs for a user's own model: sizes for its free axes, and values that the graph can use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from efflab.validation.backends.onnx_cases import inputs_of
from efflab.validation.backends.own.input_ranges import FEW, Facts, Limit, constant_axes, limit_of

Size = int | str  # of an axis; free ones by name
LENGTHS = (12, 64, 224, 1024, 4, 2, 1)  # of free axes that are no batch, in the order in which they are tried
IMAGES = (64, 224, 32, 16, 1)  # of the same where an input has rows, columns and channels
SPECIAL = 0.1  # share of values that are some of which the graph makes something


class Given(NamedTuple):
    """An input of the graph; a free axis has a name, of its own where the graph gives none."""

    name: str
    dtype: np.dtype
    dims: tuple[Size, ...]


class InputAttempt(NamedTuple):
    """One way to make inputs up: the size of free axes, the most that whole numbers spread, and the kind of the others."""

    length: int
    spread: int | None = None
    positive: bool = False


class Values(NamedTuple):
    """What an input was filled with, in words, and the limit of whole numbers."""

    words: str
    limit: Limit | None


def given_of(model: Any, light: Any) -> list[Given]:
    """Return the inputs that a caller gives; free axes whose size a weight tells are not free."""
    import onnx

    infos = inputs_of(model)
    told = constant_axes(light, [one.name for one in infos])
    found = []
    for one in infos:
        kind = one.type.tensor_type
        rank = len(kind.shape.dim)
        dims: list[Size] = []
        for axis, dim in enumerate(kind.shape.dim):
            known = told.get((one.name, axis), told.get((one.name, axis - rank)))
            free = dim.dim_param or f"{one.name}.{axis}"
            dims.append(dim.dim_value if dim.dim_value > 0 else known if known and axis else free)
        found.append(Given(one.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), tuple(dims)))
    return found


def batch_axes(given: Sequence[Given]) -> set[str]:
    """Return the names of free axes that are the batch: first ones, and, where there is a choice, first ones only."""
    first = {one.dims[0] for one in given if one.dims and isinstance(one.dims[0], str)}
    later = {size for one in given for size in one.dims[1:] if isinstance(size, str)}
    return {name for name in first if name not in later} or first


def lengths_of(given: Sequence[Given]) -> tuple[int, ...]:
    """Return the sizes to try for free axes that are no batch; one that means nothing where there are none."""
    batch = batch_axes(given)
    free = [one for one in given if any(isinstance(size, str) and size not in batch for size in one.dims)]
    if not free:
        return (1,)
    return IMAGES if any(len(one.dims) > 3 and one.dtype.kind in "fu" for one in free) else LENGTHS


def attempts(given: Sequence[Given]) -> list[InputAttempt]:
    """Return the ways to make inputs up, the best first."""
    first, *others = lengths_of(given)
    found = [
        InputAttempt(first),
        *(InputAttempt(first, spread) for spread in (FEW, 1, 0)),
        InputAttempt(first, None, True),
    ]
    return found + [InputAttempt(length, spread) for length in others for spread in (None, 1)]


def shapes_of(given: Sequence[Given], batch: int, length: int) -> dict[str, tuple[int, ...]]:
    """Return a shape for each input; names such as `past + 1` are computed, and `total` lengths are past and present."""
    sizes = dict.fromkeys(batch_axes(given), batch)
    names = {size for one in given for size in one.dims if isinstance(size, str)}

    def size_of(size: Size) -> int:
        if isinstance(size, int):
            return size
        if size in sizes:
            return sizes[size]
        parts = [part.strip() for part in size.split("+")]
        if len(parts) > 1 and all(re.fullmatch(r"\w+", part) for part in parts):
            return sum(int(part) if part.isdigit() else size_of(part) for part in parts)
        past = "total" in size.lower() and any("past" in name.lower() for name in names)
        return 2 * length if past else length

    return {one.name: tuple(size_of(size) for size in one.dims) for one in given}


def values_of(one: Given, facts: Facts, attempt: InputAttempt) -> Values:
    """Return what an input is filled with."""
    limit = limit_of(one.name, facts, attempt.length)
    if one.dtype.kind == "b":
        return Values("true and false", Limit(0, 1, "a mask"))
    if one.dtype.kind == "f" and not (limit and _as_whole(limit, one.name)):
        if attempt.positive:
            return Values("numbers between 0.05 and 1", None)
        return Values("normal numbers of mean 0 and spread 1", None)
    if limit is None and one.dtype.itemsize == 1:
        limit = Limit(int(np.iinfo(one.dtype).min), int(np.iinfo(one.dtype).max), f"all values of {one.dtype}")
    limit = limit or Limit(0, FEW, "a guess: the graph tells no limit")
    if one.dtype.kind in "iu":
        kind = np.iinfo(one.dtype)
        low, high = max(limit.low, int(kind.min)), min(limit.high, int(kind.max))
        limit = limit._replace(low=low, high=high, special=tuple(one for one in limit.special if low <= one <= high))
    why = limit.why
    if attempt.spread is not None and limit.high - limit.low > attempt.spread:
        most = limit.low + attempt.spread
        limit = limit._replace(high=most, special=tuple(one for one in limit.special if one <= most))
        why += "; no further, since the reference did not run with more"
    return Values(f"whole numbers from {limit.low} to {limit.high} ({why})", limit)


def _as_whole(limit: Limit, name: str) -> bool:
    """Say whether an input of a floating type holds whole numbers all the same: it picks rows, or is a mask by its name."""
    return "mask" in name.lower() or any(word in limit.why for word in ("rows of", "classes", "lengths of"))


def draw(
    given: Sequence[Given], shapes: Mapping[str, tuple[int, ...]], filled: Mapping[str, Values], attempt: InputAttempt,
    seed: Sequence[int],
) -> list[np.ndarray]:  # fmt: skip
    """Return arrays of these shapes; whole numbers take both ends of their range wherever there is room."""
    generator = np.random.default_rng(list(seed))
    arrays = []
    for one in given:
        limit, shape = filled[one.name].limit, shapes[one.name]
        if limit is None:
            drawn = generator.uniform(0.05, 1, shape) if attempt.positive else generator.normal(0, 1, shape)
            arrays.append(np.asarray(drawn).astype(one.dtype))
            continue
        values = np.asarray(generator.integers(limit.low, limit.high, shape, np.int64, endpoint=True))
        if limit.special:
            chosen = generator.random(shape) < SPECIAL
            values = np.where(chosen, generator.choice(limit.special, shape), values)
        if limit.why.startswith("a mask") and len(shape) and shape[-1] > 1:
            values[..., 0] = limit.high  # a row of which nothing is left has no meaning
        elif values.size > 1:
            values.flat[generator.choice(values.size, 2, replace=False)] = limit.low, limit.high
        arrays.append(values.astype(one.dtype))
    return arrays


def shape_words(one: Given) -> list[Size]:
    """Return the declared shape of an input; axes that the graph does not name are "?"."""
    return ["?" if size == f"{one.name}.{axis}" else size for axis, size in enumerate(one.dims)]
