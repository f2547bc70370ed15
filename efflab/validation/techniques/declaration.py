"""The part of the contract of techniques that can be checked without a model: what one says of itself, and its settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from efflab.foundation import registry
from efflab.foundation.metrics import METRICS
from efflab.foundation.wording import one_line
from efflab.validation.techniques.workplace import Broken, Workplace

MOST_SETTINGS = 7
FAR_BELOW = -(10**9)  # no setting is a number without a lower limit


def has_a_tiny_setting(name: str, workplace: Workplace) -> None:
    """It has a `tiny` setting, under which it can be tried in seconds."""
    schema = registry.load("techniques", name)
    if not isinstance(getattr(schema, "tiny", None), dict):
        raise Broken("it does not say `tiny: ClassVar = {...}`, the settings under which it runs in seconds")
    try:
        schema(**schema.tiny)
    except (TypeError, ValidationError) as error:
        raise Broken(f"it refuses its own tiny setting: {one_line(error)}") from error


def says_what_it_is(name: str, workplace: Workplace) -> None:
    """It is documented, has at most seven settings, names only what is known, and is a plain function, too."""
    schema = registry.load("techniques", name)
    module = sys.modules[schema.__module__]
    function = getattr(module, name, None)
    if not callable(function):
        raise Broken(f"its file has no plain function `{name}` that does the work on a bare model")
    for what, documented in ((f"class {schema.__name__}", schema), ("file", module), (f"function {name}", function)):
        if not (documented.__doc__ or "").strip().split("\n")[0].endswith("."):
            raise Broken(f"the {what} does not open with one sentence that says what it does, with a full stop")
    if len(schema.model_fields) > MOST_SETTINGS:
        raise Broken(f"it has {len(schema.model_fields)} settings, more than {MOST_SETTINGS}")
    unknown = sorted({*schema.claims} - {*METRICS})
    if unknown:
        raise Broken(f"it claims {unknown[0]!r}, which is no metric; known: {', '.join(METRICS)}")
    _check_order(name, schema)


def _check_order(name: str, schema: Any) -> None:
    known = registry.names("techniques")
    for state in ("after", "before", "claims"):
        if not isinstance(getattr(schema, state), tuple):
            raise Broken(f'`{state}` must be a tuple of names, such as `("cast",)`')
    for state in ("after", "before", "rather_after"):
        unknown = [other for other in getattr(schema, state) if other not in known]
        if unknown:
            raise Broken(f"`{state}` names {unknown[0]!r}, which is no technique")
    if name in schema.after or name in schema.rather_after:
        raise Broken("it stands in its own `after` or `rather_after`")
    both = sorted({*schema.before} & {*schema.after, *schema.rather_after})
    if both:
        raise Broken(f"{both[0]} may not stand before it, and should: `before` contradicts `after` or `rather_after`")
    for other, reason in schema.rather_after.items():
        if not reason.strip() or reason.strip().endswith("."):
            raise Broken(f"the reason why it stands rather after {other} must be a short clause without a full stop")
        if name in getattr(registry.load("techniques", other), "rather_after", {}):
            raise Broken(f"it and {other} each want to stand after the other")


def refuses_unknown_keys(name: str, workplace: Workplace) -> None:
    """It refuses a key that is none of its settings."""
    technique = workplace.technique(name)
    schema: Any = type(technique)
    try:
        schema(**technique.model_dump(), no_such_setting=1)
    except ValidationError as error:
        if any(one["type"] == "extra_forbidden" for one in error.errors()):
            return
    raise Broken("it takes the key `no_such_setting` without a word")


def refuses_bad_values(name: str, workplace: Workplace) -> None:
    """It refuses, for each setting, a value of another kind, and a number far below what can be meant."""
    technique = workplace.technique(name)
    schema, tiny, section = type(technique), technique.model_dump(), technique.short_form
    _try_bad_values(schema, lambda key, value: schema(**{**tiny, key: value}))
    if section:
        inside = type(getattr(technique, section))
        _try_bad_values(inside, lambda key, value: schema(**{**tiny, section: {**tiny[section], key: value}}))


def _try_bad_values(schema: Any, make: Callable[[str, Any], Any]) -> None:
    for key, field in schema.model_fields.items():
        bad: list[Any] = [object()]
        bad += [FAR_BELOW] if field.annotation is int else []
        bad += [float(FAR_BELOW), float("nan")] if field.annotation is float else []
        for value in bad:
            try:
                make(key, value)
            except ValidationError:
                continue
            shown = "an object of no known kind" if type(value) is object else value
            raise Broken(f"its setting {key} takes {shown}")


def control_changes_one_setting(name: str, workplace: Workplace) -> None:
    """Its control, if it has one, differs by one setting and has no control itself."""
    technique = workplace.technique(name)
    control = technique.control()
    if control is None:
        return
    theirs = control.model_dump()
    changed = [key for key, value in technique.model_dump().items() if theirs.get(key) != value]
    if type(control) is not type(technique) or len(changed) != 1:
        raise Broken(f"its control differs by {', '.join(changed) or 'nothing'}, not by one setting")
    if control.control() is not None:
        raise Broken("its control has a control")
