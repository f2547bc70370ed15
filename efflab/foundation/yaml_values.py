"""Finds the plain values of YAML that it reads otherwise than people do, or with which nothing can work."""

from __future__ import annotations

import math
import re
from typing import Any

from efflab.foundation.wording import shown

MOST_DIGITS = 100  # a sha256 of decimal digits alone is no number, and its place says so
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
CONTROL = re.compile("[\\0-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")  # but tabs and line ends


def odd(value: Any, written: str) -> str:
    """Return what is wrong with a value that YAML reads otherwise than people do, or that nothing can work with; or ""."""
    if isinstance(value, str):
        found = CONTROL.search(value)
        return f"holds the character U+{ord(found[0]):04X}; take it out" if found else ""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        return f"a number of {len(written):,} digits is too long"
    if isinstance(value, int):
        right = DECIMAL.fullmatch(written)
        return (
            "" if right else f"{shown(written)[1:-1]} is {value} to YAML; write decimal digits, or quotes if it is text"
        )
    if isinstance(value, float):
        if ":" in written:
            return f"{shown(written)[1:-1]} is {value} to YAML; write a decimal number, or quotes if it is text"
        return "" if math.isfinite(value) else f"must be a finite number (found {shown(written)[1:-1]})"
    kind = "bytes" if isinstance(value, bytes) else "a date"
    return f"{shown(written)[1:-1]} is {kind} to YAML; put it in quotes if it is text"
