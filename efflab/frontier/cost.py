"""What a technique costs to apply, and after how many inferences that is won back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BreakEven:
    """The number of inferences after which the saving has paid for the recovery work; None when it never does."""

    inferences: float | None
    words: str


def break_even(spent: float, before: float, after: float, unit: str = "MACs") -> BreakEven:
    """Return spent / (before - after); `before` and `after` are the cost of one inference in the unit of `spent`."""
    saved = before - after
    if saved <= 0:
        change = f"as many {unit} as" if saved == 0 else f"more {unit} than"
        return BreakEven(None, f"never: an inference takes {change} before")
    if spent <= 0:
        return BreakEven(0.0, "at once: nothing was spent")
    return BreakEven(spent / saved, f"after {spent / saved:.3g} inferences")
