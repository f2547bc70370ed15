"""The record of a validation, as plain data that its page, its JUnit XML and the next validation read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.outside import altered, content_of, parsed_json, spelled, why, with_digest
from efflab.validation.verdict import CaseResult

SCHEMA = 1


class Ratio(TypedDict):
    """A ratio, or a difference, with its interval."""

    value: float
    low: float
    high: float


class SpeedRow(TypedDict):
    """A line of the speed suite; ratio is the reference's time over the backend's."""

    model: str
    batch: int
    latency_ms_p50: float | None
    reference_ms_p50: float | None
    ratio: Ratio | None
    verdict: str
    throughput_per_s: float | None


class ForecastRow(TypedDict):
    """What an int8 model loses where pairs of products are added in 16 bits; quality only where a task is known."""

    model: str
    words: str
    layers: list[dict[str, Any]]
    agreement: float  # share of rows with the same class
    quality: float | None
    difference: Ratio | None  # of quality, with its paired interval


class OwnInput(TypedDict):
    """What an input of a user's model was filled with."""

    name: str
    dtype: str
    shape: list[int | str]  # as declared: a free axis has a name
    values: str


class OwnRow(TypedDict):
    """A model of the user's own: its file, the files of weights beside it, and the inputs that were made up for it."""

    model: str
    file: str
    data: list[str]
    numbers: str  # float32, float16, int8, ...
    batches: list[int]
    inputs: list[OwnInput]
    notes: list[str]


class Validation(TypedDict):
    """All that one validation found."""

    schema: int
    backend: str
    settings: dict[str, Any]
    reference: str
    suites: list[str]
    quick: bool
    only: NotRequired[str]  # conformance cases that were asked for; "" for all
    tolerances: NotRequired[list[dict[str, Any]]]  # rules of the user's own that came before those of efflab
    own: NotRequired[list[OwnRow]]  # models of the user's own
    made: NotRequired[str]  # date and time, UTC
    machine: dict[str, Any]
    results: list[CaseResult]
    speed: list[SpeedRow]
    forecasts: list[ForecastRow]
    located: list[dict[str, Any]]  # what --localise found: model, and the words or the reason


def written(validation: Validation) -> str:
    """Return the text of a validation.json, with the digest by which a reader knows that nobody altered it."""
    return json.dumps(with_digest({**validation}), indent=1, allow_nan=False) + "\n"


def load_validation(path: Path) -> Validation:
    """Read a validation.json; raise RequestError where it is none, or of a newer schema."""
    try:
        found = parsed_json(content_of(path))
    except FileNotFoundError as error:
        raise RequestError(Problem(str(path), "there is no such file; `efflab validate` writes one")) from error
    except (OSError, ValueError) as error:
        raise RequestError(Problem(str(path), f"not a validation ({type(error).__name__}: {why(error)})")) from error
    if (
        not isinstance(found, dict)
        or type(found.get("schema")) is not int
        or not isinstance(found.get("results"), list)
    ):
        raise RequestError(Problem(str(path), "not a validation (it has no `schema` and `results`)"))
    if found["schema"] > SCHEMA:
        raise RequestError(Problem(str(path), f"written by a newer efflab (schema {found['schema']})"))
    changed = altered(found)
    problems = _problems(found)
    if problems:
        raise RequestError(Problem(str(path), f"a damaged validation: {problems}"))
    if changed:
        what = "the file was altered after it was written, and its verdicts cannot be relied on; validate again"
        raise RequestError(Problem(str(path), what))
    return found  # type: ignore[return-value]


def _problems(found: Any) -> str:
    """Return in words what is not as a validation has it; "" if nothing."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(Validation).validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{spelled(first['loc'])}: {first['msg'].lower()}"
    return ""
