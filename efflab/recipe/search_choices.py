"""Reads the steps of a search: techniques as in any recipe, in which `choose` leaves settings, or whole lists of steps, open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from efflab.foundation.config import Key
from efflab.recipe.search_space import Dimension, Fork, OpenStep

CHOOSE = "choose"
MOST_VALUES = 10_000  # of a range with a step


class BadChoice(ValueError):  # noqa: N818 (what is wrong with a choice)
    """Something that is no step or no choice; `key` is where it stands below the steps."""

    def __init__(self, key: Key, what: str):
        super().__init__(what)
        self.key = key


def parse_steps(steps: Sequence[Any], key: Key = ()) -> tuple[OpenStep | Fork, ...]:
    """Return the steps of a search; raise BadChoice for what is no step or no choice."""
    return tuple(_step(step, (*key, index)) for index, step in enumerate(steps))


def _step(step: Any, key: Key) -> OpenStep | Fork:
    if not isinstance(step, Mapping) or len(step) != 1:
        raise BadChoice(
            key, "must name exactly one technique with its settings, or `choose` with a list of lists of steps"
        )
    ((name, content),) = step.items()
    key = (*key, name)
    if name == CHOOSE:
        return _fork(content, key)
    if not isinstance(content, Mapping | None):
        raise BadChoice(key, f"the settings of {name} must be a mapping")
    settings, opened = _parted(name, content or {}, key)
    for section, inner in settings.items():
        if isinstance(inner, Mapping):
            settings[section], inside = _parted(name, inner, (*key, section))
            opened += [(f"{section}.{one}", dimension) for one, dimension in inside]
    return OpenStep(name, settings, tuple(opened), key)


def _parted(name: str, content: Mapping[str, Any], key: Key) -> tuple[dict[str, Any], list[tuple[str, Dimension]]]:
    """Return what is given of the settings of a technique, or of a section of them, and what is open."""
    settings = dict(content)
    if "sweep" in settings:
        raise BadChoice((*key, "sweep"), f"a search has no sweep; write `{name}: {{choose: {{setting: [values]}}}}`")
    choose = settings.pop(CHOOSE, {})
    if not isinstance(choose, Mapping):
        raise BadChoice((*key, CHOOSE), f"must map settings of {name} to lists or ranges")
    twice = next((one for one in choose if one in settings), None)
    if twice:
        raise BadChoice((*key, twice), f"{twice!r} of {name} is given, and open too")
    return settings, [(one, _dimension((*key, CHOOSE, one), value)) for one, value in choose.items()]


def _fork(content: Any, key: Key) -> Fork:
    if not isinstance(content, list) or not content:
        raise BadChoice(key, "choose as a step takes a list of lists of steps, [] for none")
    for way, inner in enumerate(content):
        if not isinstance(inner, list):
            raise BadChoice((*key, way), "a way of choose must be a list of steps, [] for none")
    ways = tuple(parse_steps(inner, (*key, way)) for way, inner in enumerate(content))
    return Fork(Dimension(_name(key), tuple(range(len(ways)))), ways)


def _name(key: Key) -> str:
    """Return a dimension's name: `0.choose.1.0.finetune.epochs`."""
    return ".".join(map(str, key))


def _dimension(key: Key, given: Any) -> Dimension:
    if isinstance(given, list) and given:
        return _listed(key, given)
    if isinstance(given, Mapping) and {"from", "to"} <= given.keys() <= {"from", "to", "step", "log"}:
        return _range(key, given["from"], given["to"], given.get("step"), given.get("log", False))
    raise BadChoice(key, "write a list of values, or a range `{from: 0.1, to: 0.6}` (with `step` or `log: true`)")


def _listed(key: Key, given: list[Any]) -> Dimension:
    numbers = all(type(one) in (int, float) for one in given)
    values = sorted(given) if numbers else given
    if len({repr(one) for one in values}) != len(values):
        raise BadChoice(key, "a value is given twice")
    return Dimension(_name(key), tuple(values), ordered=numbers)


def _range(key: Key, low: Any, high: Any, step: Any, log: Any) -> Dimension:
    if not all(type(one) in (int, float) and math.isfinite(one) for one in (low, high)) or type(log) is not bool:
        raise BadChoice(key, "from and to must be numbers, log true or false")
    if not math.isfinite(high - low):
        raise BadChoice(key, "from and to lie too far apart")
    if not low < high or (log and low <= 0):
        raise BadChoice(key, f"from must be less than to{', and more than 0 with log' if log else ''}")
    if step is None:
        return Dimension(_name(key), low=low, high=high, log=log, whole=type(low) is int and type(high) is int)
    if type(step) not in (int, float) or not 0 < step < math.inf or log:
        raise BadChoice(key, "step must be a number above 0, and stands without log")
    if high - low >= step * MOST_VALUES:
        raise BadChoice(key, f"more than {MOST_VALUES:,} steps from {low} to {high}; take a larger step, or none")
    values = (low + step * place for place in range(math.floor((high - low) / step + 1e-9) + 1))
    # 0.1 + 2 x 0.1 is to read 0.3
    return Dimension(_name(key), tuple(one if type(one) is int else round(one, 12) for one in values), ordered=True)
