"""Compares a backend's outputs with the right ones: type, shape, NaN and infinities, and values within tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from efflab.validation.backends.tolerance import Rule

RuleOf = Callable[[str], Rule]  # by element type


class Difference(NamedTuple):
    """What is wrong in words ("" if nothing), and the largest error seen."""

    what: str
    max_abs_error: float


def difference(found: Any, wanted: Any, rule_of: RuleOf, where: str = "output") -> Difference:
    """Return how two values differ: arrays, lists of values, or None."""
    if wanted is None or found is None:
        same = found is None and wanted is None
        return Difference(
            "" if same else f"{where} is {_kind(found)}, expected {_kind(wanted)}", 0.0 if same else math.inf
        )
    if isinstance(wanted, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(wanted):
            return Difference(f"{where} is {_kind(found)}, expected {_kind(wanted)}", math.inf)
        parts = [difference(*pair, rule_of, f"{where}[{n}]") for n, pair in enumerate(zip(found, wanted, strict=True))]
        wrong = next((part.what for part in parts if part.what), "")
        return Difference(wrong, max((part.max_abs_error for part in parts), default=0.0))
    return _arrays(np.asarray(found), np.asarray(wanted), rule_of, where)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (list, tuple)):
        return f"{len(value)} values"
    return f"{np.asarray(value).dtype} of shape {np.asarray(value).shape}"


def _arrays(found: np.ndarray, wanted: np.ndarray, rule_of: RuleOf, where: str) -> Difference:
    textual = wanted.dtype.kind in "OUS"
    if found.shape != wanted.shape or (found.dtype != wanted.dtype and not textual):
        return Difference(f"{where} is {_kind(found)}, expected {_kind(wanted)}", math.inf)
    if textual:
        same = bool((found.astype(str) == wanted.astype(str)).all())
        return Difference("" if same else f"{where} has other words", 0.0 if same else math.inf)
    rule = rule_of(str(wanted.dtype))
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    if wanted.dtype.kind in "biu" and not rule.rtol and not rule.atol:
        return _whole(found, wanted, where)
    got, right = found.astype(wide), wanted.astype(wide)
    with np.errstate(invalid="ignore"):
        error = np.where((got == right) | (np.isnan(got) & np.isnan(right)), 0.0, np.abs(got - right))
        error = np.where(np.isnan(error), np.inf, error)
        allowed = rule.atol + rule.rtol * np.where(np.isfinite(right), np.abs(right), 0.0)
    largest = float(error.max(initial=0.0))
    beyond = error > allowed
    if not beyond.any():
        return Difference("", largest)
    worst = np.unravel_index(int(np.argmax(np.where(beyond, error, -1.0))), error.shape)
    return Difference(
        f"{where}: {int(beyond.sum())} of {error.size} values beyond {rule.atol:g} + {rule.rtol:g} x |expected|, the worst "
        f"{got[worst]:.7g} instead of {right[worst]:.7g} at {[int(index) for index in worst]}",
        largest,
    )


def _whole(found: np.ndarray, wanted: np.ndarray, where: str) -> Difference:
    differ = found != wanted
    if not differ.any():
        return Difference("", 0.0)
    worst = tuple(int(index) for index in np.argwhere(differ)[0]) if found.ndim else ()
    largest = max(abs(int(a) - int(b)) for a, b in zip(found[differ].flat, wanted[differ].flat, strict=True))
    told = f"{where}: {int(differ.sum())} of {found.size} values differ, the first {found[worst]} instead of {wanted[worst]}"
    return Difference(f"{told} at {[*worst]}", float(largest))
