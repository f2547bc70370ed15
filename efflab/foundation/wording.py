"""Says in plain words what a schema found wrong with a value, and how to write it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from efflab.foundation.errors import nearest, text_of

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
SHA256 = r"^[0-9a-f]{64}$"
COMMIT = r"^[0-9a-f]{40}$"
LONGEST_SHOWN = 60
MOST_NAMED = 100  # names in one sentence; tables and files hold all

_PATTERNS = {
    NAME: "must be made of letters, digits, '.', '_' and '-', and begin with a letter or digit",
    SHA256: "must be the 64 hexadecimal digits (0-9, a-f) that `sha256sum FILE` prints",
    COMMIT: "must be the 40 hexadecimal digits (0-9, a-f) of a commit; branches and tags can move",
}
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
KINDS = {*_TYPES, "literal_error"}  # a value of another kind than the schema's
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_SIZES = {
    "too_short": ("at least", "min_length", "entries"),
    "too_long": ("at most", "max_length", "entries"),
    "string_too_short": ("at least", "min_length", "characters"),
    "string_too_long": ("at most", "max_length", "characters"),
}


def sentence(kind: str, value: Any, bounds: Mapping[str, Any], message: str) -> str:
    """Return what is wrong with `value`; `kind`, `bounds` and `message` are the type, context and text of pydantic."""
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(bounds["expected"]))
        return f"unknown value {shown(value)}; {nearest(str(value), known)}"
    if kind in _TYPES:
        what = f"must be {_TYPES[kind]}{_how(kind, value)}"
    elif kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        bound = bounds[key]
        what = f"must be {word} {int(bound) if bound == int(bound) else bound:,}"
    elif kind in _SIZES:
        word, key, unit = _SIZES[kind]
        what = f"must have {word} {bounds[key]} {unit if bounds[key] != 1 else unit.replace('ies', 'y').rstrip('s')}"
    elif kind == "string_pattern_mismatch":
        what = _PATTERNS.get(bounds["pattern"], f"must match {bounds['pattern']}")
    else:
        what = " ".join(message.removeprefix("Value error, ").split())
    return what if isinstance(value, dict) and kind not in _TYPES else f"{what} (found {shown(value)})"


def shown(value: Any) -> str:
    """Return a value as a YAML file would have it, cut to one short line."""
    words = {None: "nothing", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) < LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its type and its message."""
    return " ".join(f"{type(error).__name__}: {text_of(error)}".split()).rstrip(": ")


def listed(names: Iterable[str], between: str = ", ") -> str:
    """Return names as one text, each once; of a great many the first, and how many more there are."""
    each = list(dict.fromkeys(names))
    more = len(each) - MOST_NAMED
    return between.join(each[:MOST_NAMED]) + (f"{between}and {more:,} more" if more > 0 else "")


def first_of(lines: Sequence[str], where: str) -> list[str]:
    """Return lines as they are; of a great many the first, and a line that says how many more there are, and where."""
    more = len(lines) - MOST_NAMED
    return [*lines[:MOST_NAMED], *([f"{more:,} more are left out here; {where}."] if more > 0 else [])]


def duration(seconds: float) -> str:
    """Return a time as it is said: seconds below a minute and a half, else minutes, else hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _how(kind: str, value: Any) -> str:
    """Return how to write a value that YAML took for another type, as the tail of a sentence."""
    if kind == "string_type" and not isinstance(value, list | dict | None):
        return "; put it in quotes"
    if kind == "dict_type" and isinstance(value, str) and re.match(NAME, value):
        return f"; write `{value}: {{}}`"
    if kind == "float_type" and isinstance(value, str):
        return _as_number(value)
    if kind == "int_type" and isinstance(value, str) and value.isdecimal():
        return "; take the quotes away"
    return ""


def _as_number(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return ""
    mantissa, exponent, power = text.lower().partition("e")
    if not exponent:
        return "; take the quotes away"
    # YAML 1.1 takes an exponent for a number only after a point and with a sign
    dotted = mantissa if "." in mantissa else f"{mantissa}.0"
    signed = power if power[:1] in "+-" else f"+{power}"
    plain = f" or {value:.10f}".rstrip("0").rstrip(".") if 1e-6 <= abs(value) < 1e6 else ""
    return f"; YAML reads it as text: write {dotted}e{signed}{plain}"
