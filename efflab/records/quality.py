"""How a record says how good a model is: a value, the error that goes with it, and the unit of differences.

Readers work with errors: less is better, and 0 is the best. A record without an error is of a share such as accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SHARE = "points"  # the unit of shares: a hundredth


def one_minus(value: Any) -> Any:
    """Return the error of a share of right answers."""
    return 1 - value


def unchanged(value: Any) -> Any:
    """Return the error of a loss: the loss itself."""
    return value


RULES: dict[str, Callable[[Any], Any]] = {"1 - value": one_minus, "value": unchanged}
USUAL = "1 - value"
PROBES = (0.25, 0.625, 3.5)  # values at which two error functions that are not the same differ


def rule_of(error: Callable[[Any], Any]) -> str:
    """Return the name of an error function, by what it gives; "" for one that only its task has."""
    try:
        found = [error(value) for value in PROBES]
    except Exception:  # a task's own code, on values that its metric may never have
        return ""
    return next((name for name, rule in RULES.items() if found == [rule(value) for value in PROBES]), "")


def is_share(quality: Mapping[str, Any]) -> bool:
    """Say whether the error of a record is 1 - value."""
    return bool(quality.get("error_rule", USUAL) == USUAL)


def error_of(quality: Mapping[str, Any]) -> float:
    """Return the error of a record."""
    return float(quality["error"] if "error" in quality else 1 - quality["value"])


def unit_of(quality: Mapping[str, Any]) -> str:
    """Return the unit in which differences and margins of a record are said."""
    return str(quality.get("unit", SHARE))


def units_in_one(unit: str) -> float:
    """Return how many units an error of 1 has: 100 points, 1 nat."""
    return 100.0 if unit == SHARE else 1.0
