"""What a technique costs to apply, after how many inferences that is won back, and what a model costs over its life."""

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


@dataclass(frozen=True)
class LifeCycle:
    """The cost of a model over so many inferences, in one unit: what was spent once, and what each inference takes."""

    once: float
    each: float
    inferences: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.once + self.inferences * self.each

    @property
    def amortised(self) -> float:
        """What an inference costs with its share of what was spent once."""
        return self.total / self.inferences

    def against(self, other: LifeCycle) -> str:
        """Say from or up to how many inferences this costs less than another, both in one unit."""
        once, each = self.once - other.once, self.each - other.each
        if once == each == 0:
            return "the same"
        if once <= 0 and each <= 0:
            return "always cheaper"
        if once >= 0 and each >= 0:
            return "never cheaper"
        return f"cheaper {'from' if each < 0 else 'up to'} {-once / each:.3g} inferences{' on' if each < 0 else ''}"
