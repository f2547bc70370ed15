"""The words that intervals support, and corrections for many of them.

A verdict is one of several that a study makes of a kind, so each rests on a p-value that goes with its interval and can be
corrected (`corrected`): of the two being different, and of their being the same within a margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from efflab.statistics.intervals import NORMAL, Interval, student, student_at, student_p

ALPHA = 0.05
NORMAL_FREEDOM = 1000  # with which Student's t is nearly the normal deviate
SAME_SESSION = 0.02  # a speed-up of less is not called one, however sure it is
SAME_SPEED = 0.1  # "no difference" is said only where the interval excludes more than so much
CONTROL_FAILED = "control failed"


class Tests(NamedTuple):
    """Two-sided p-values: of no difference, and of a difference (or loss) of the margin."""

    differs: float
    same: float


def p_value(interval: Interval, null: float, freedom: int | None = None) -> float:
    """Return the two-sided p-value of the truth being `null`, below 0.05 where the interval excludes it.

    freedom: degrees of freedom of the interval's Student's t; without them it is that of a normal deviate.
    """
    reach = interval.value - interval.low if interval.value > null else interval.high - interval.value
    apart = abs(interval.value - null)
    if not apart > 0:
        return 1.0
    if not reach > 0:
        return 0.0
    if freedom is None:
        return math.erfc(NORMAL * apart / reach / math.sqrt(2))
    return student_p(student(freedom) * apart / reach, freedom)


def non_inferior(difference: Interval, margin: float) -> bool:
    """Say whether the whole interval of a quality difference lies above -margin (same unit)."""
    return difference.low > -margin


def speed_tests(speedup: Interval, freedom: int | None = None) -> Tests:
    """Return the tests of a speed-up against 1, and of its lying within 10 % of 1 (two one-sided tests)."""
    logs = Interval(*(math.log(end) for end in (speedup.value, speedup.low, speedup.high)))
    reach = math.log(1 + SAME_SPEED)
    within = abs(logs.value) < reach
    same = max(p_value(logs, reach, freedom), p_value(logs, -reach, freedom)) if within else 1.0
    return Tests(p_value(logs, 0.0, freedom), same)


def quality_tests(difference: Interval, margin: float | None = None) -> Tests:
    """Return the tests of a quality difference against 0, and of a loss of the margin (same unit)."""
    lost = margin is not None and not difference.value > -margin
    same = 1.0 if lost else 0.0 if margin is None else p_value(difference, -margin)
    return Tests(p_value(difference, 0.0), same)


def corrected(tests: Sequence[Tests]) -> list[Tests]:
    """Return the tests of one kind of verdict, corrected for making all of them."""
    differs, same = (holm([one[kind] for one in tests]) for kind in (0, 1))
    return [Tests(*both) for both in zip(differs, same, strict=True)]


def widened(ratio: Interval, count: int, freedom: int | None = None) -> Interval:
    """Return the interval of a ratio that holds together with those of `count` others at 95 % (Bonferroni), on logarithms."""
    if not ratio.bounded or ratio.low <= 0:
        return ratio
    t = NORMAL_FREEDOM if freedom is None else freedom
    factor = student_at(t, 1 - ALPHA / count) / student_at(t)
    value, low, high = (math.log(end) for end in (ratio.value, ratio.low, ratio.high))
    return Interval(ratio.value, math.exp(value - factor * (value - low)), math.exp(value + factor * (high - value)))


def speed_verdict(speedup: Interval, tests: Tests | None = None) -> str:
    """Say faster, slower or no difference; "undecided" where the interval, or what is left of its tests, is too weak."""
    differs, same = tests or speed_tests(speedup)
    if differs < ALPHA and speedup.low > 1 and speedup.value > 1 + SAME_SESSION:
        return "faster"
    if differs < ALPHA and speedup.high < 1 and speedup.value < 1 / (1 + SAME_SESSION):
        return "slower"
    bound = 1 + SAME_SPEED
    alike = same < ALPHA and speedup.low >= 1 / bound and speedup.high <= bound
    return "no difference" if alike else "undecided"


def control_fails(controls: Iterable[Interval], claimed: Interval) -> bool:
    """Say whether a speed-up must not be believed, by those of a model over itself in the same group.

    A control fails where its interval excludes 1, and where it lies further from 1 than what is claimed: for "no
    difference" that is 10 %.
    """
    claim = abs(math.log(claimed.value)) if speed_verdict(claimed) in ("faster", "slower") else math.log(1 + SAME_SPEED)
    return any(excludes_one(one) or abs(math.log(one.value)) > claim for one in controls)


def excludes_one(control: Interval) -> bool:
    """Say whether a model is surely of another speed than itself, so that nothing of its group can be believed."""
    return control.low > 1 or control.high < 1


def quality_verdict(difference: Interval, margin: float | None = None, tests: Tests | None = None) -> str:
    """Say what an interval of a quality difference shows, against a margin fixed beforehand (same unit).

    "no difference" is claimed only where the interval also excludes a loss of the margin; else it is "undecided".
    """
    differs, same = tests or quality_tests(difference, margin)
    apart = differs < ALPHA
    if apart and difference.low > 0:
        return "better"
    held = margin is None or (same < ALPHA and non_inferior(difference, margin))
    if apart and difference.high < 0:
        return "not worse than the margin" if held and margin is not None else "worse"
    return "no difference" if held else "undecided"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for testing all of them (Holm), in the given order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected
