"""What must be in a study for its readers to rely on it; anything else is a damaged file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from efflab.foundation.errors import nearest
from efflab.foundation.metrics import METRICS
from efflab.foundation.outside import spelled
from efflab.foundation.wording import KINDS, one_line, sentence
from efflab.records.quality import RULES, USUAL
from efflab.records.record import SAME_QUALITY, Record
from efflab.records.samples import mean_score

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Key = tuple[str | int, ...]
IMPOSSIBLE = "where only a number above 0 can be"  # how a reason ends that says all without more words
_NUMBERS = {"int_type", "int_from_float", "float_type", "finite_number"}
_TOLD_BY_KIND = {"dict_type", "literal_error", "float_type", "finite_number"}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
# what says more than the kind of a value does
_BY_INPUT = "work.by_input must be a list of groups with macs, share and quality, whose shares make 1"
_WORDS = "quality.error_rule and quality.unit must be words"
_SAID: dict[Key, str] = {
    ("work", "by_input"): _BY_INPUT,
    ("latency", "inputs"): "latency.inputs must be a count",
    ("latency", "examples"): "latency.examples must be a count",
    ("quality", "error"): "quality.error must be a number from 0 on",
    ("quality", "scores"): "quality.scores cannot be read (they are no mapping)",
    ("quality", "error_rule"): _WORDS,
    ("quality", "unit"): _WORDS,
    ("quality", "others"): "quality.others must hold numbers",
}


def damage(study: dict[str, Any]) -> str:
    """Return the first thing in a study that readers rely on and that is not there, with its place, or ""."""
    head = {key: value for key, value in study.items() if key != "records"}
    wrong = _breach("head", head) or _odd_search(study.get("search"))
    if wrong or not isinstance(study.get("records"), list):
        return wrong or "records is missing or of the wrong kind"
    if not study["records"]:
        return "it has no records"
    for index, record in enumerate(study["records"]):
        wrong = _breach("record", record)
        if not wrong and record["machine"] not in study["machines"]:
            wrong = f"machine {record['machine']!r} is not among the study's machines"
        wrong = wrong or _odd_groups(record) or _odd_times(record) or _odd_error(record) or _odd_scores(record)
        if wrong:
            return f"records[{index}]: {wrong}"
    return ""


@cache
def _schema(kind: str) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter, with_config

    from efflab.records.study import Head

    strict = with_config(ConfigDict(strict=True, allow_inf_nan=False))
    return TypeAdapter(strict(Head if kind == "head" else Record))


def _breach(kind: str, data: Any) -> str:
    """Return in words where data breaks its schema first; "" where it does not."""
    from pydantic import ValidationError

    try:
        _schema(kind).validate_python(data)
    except ValidationError as error:
        return _in_words(error.errors(include_url=False)[0], at_top=kind == "head")
    return ""


def _in_words(error: Any, at_top: bool) -> str:
    """Return what is wrong with one value, as `latency.rounds_ms must hold times, none below 0 (found -1.0)`."""
    key: Key = tuple(part for part in error["loc"] if isinstance(part, int) or not part.endswith("]"))
    kind, value = error["type"], error["input"]
    if isinstance(value, float) and not math.isfinite(value):
        kind = "finite_number"
    if not key:
        return "it must be a mapping"
    if kind == "missing" and (len(key) <= 2 or key[:2] not in _SAID):
        return f"{spelled(key)} is missing or of the wrong kind"
    if key[:2] == ("latency", "rounds_ms"):
        what = "times, none below 0" if kind in _NUMBERS | _BOUNDS else "a list of lists of times"
        return f"latency.rounds_ms must {'hold' if what[0] == 't' else 'be'} {what} (found {_place(key, value)})"
    if key[:2] in _SAID:
        return _SAID[key[:2]]
    if kind in ("greater_than_equal", "finite_number") and key[0] == "work":
        return f"{spelled(key)} is {value}, {IMPOSSIBLE}"
    if kind in _NUMBERS and len(key) > 1:
        number = "whole number" if kind != "finite_number" and isinstance(value, float) else "number"
        return f"{spelled(key)} must be a {number} (found {value!r:.60})"
    if kind in KINDS and len(key) == 1 and (at_top or kind not in _TOLD_BY_KIND):
        return f"{spelled(key)} is missing or of the wrong kind"
    what = sentence(kind, value, error.get("ctx", {}), error["msg"])
    return f"{spelled(key)} {what}"


def _place(key: Sequence[str | int], value: Any) -> str:
    return f"{value!r:.60} at {spelled(key[1:])}" if len(key) > 2 else f"{value!r:.60}"


def _odd_search(search: Any) -> str:
    """Return what does not fit together in the record of a search, or ""."""
    if search is None:
        return ""
    named = [*search["minimize"], *(bound.partition(" ")[0] for bound in search["where"])]
    strange = next((name for name in named if name not in METRICS), None)
    return "" if strange is None else f"search: there is no metric {strange!r}; {nearest(strange, METRICS)}"


def _odd_groups(record: dict[str, Any]) -> str:
    groups = record.get("work", {}).get("by_input", [])
    whole = not groups or abs(sum(group["share"] for group in groups) - 1) < 1e-6
    return "" if whole else _BY_INPUT


def _odd_times(record: dict[str, Any]) -> str:
    """Say what is wrong with a record's times together, or ""."""
    if "latency" not in record:
        return ""
    rounds, inputs = record["latency"]["rounds_ms"], record["latency"].get("inputs", 1)
    if "starts" in record["latency"] and sum(record["latency"]["starts"]) != len(rounds):
        return "latency.starts must hold the rounds of each start, together as many as latency.rounds_ms"
    if any(len(times) % inputs for times in rounds):
        return "latency.rounds_ms must hold whole turns over latency.inputs"
    if 2 * sum(times.count(0) for times in rounds) >= sum(map(len, rounds)):
        return "latency.rounds_ms must hold times above 0, and half of them are 0"
    return ""


def _odd_error(record: dict[str, Any]) -> str:
    """Say where the error of a quality does not follow from its value, or ""."""
    if "quality" not in record:
        return ""
    quality, rule = record["quality"], record["quality"].get("error_rule", USUAL)
    value = quality["value"]
    error = quality.get("error", 1 - value)
    if rule in RULES and not abs(RULES[rule](value) - error) <= SAME_QUALITY * max(1.0, abs(value)):
        return f"quality.error is {error:.4f}, where {rule} of quality.value gives {RULES[rule](value):.4f}"
    return "" if error >= 0 else "quality.error must be a number from 0 on"


def _odd_scores(record: dict[str, Any]) -> str:
    """Say what is wrong with a record's scores of single examples: their number, or a mean unlike its quality; or ""."""
    if "quality" not in record:
        return ""
    packed, value = record["quality"]["scores"], record["quality"]["value"]
    try:
        mean = mean_score(packed)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return f"quality.scores cannot be read ({one_line(error)})"
    if mean is not None and not abs(mean - value) <= SAME_QUALITY:
        return f"quality.scores have a mean of {mean:.4f}, quality.value is {value:.4f}"
    return ""
