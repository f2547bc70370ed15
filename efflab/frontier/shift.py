"""How far a variant lies from its dense family: the compute that the family needs for its error, over its own.

A shift of 1 means that a smaller dense model would have done as well; below 1 it would have done better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from efflab.frontier.fit import PowerLaw, fit_power_law, student
from efflab.profiling.statistics import Interval, interval_of

NORMAL = 1.96  # what Student's t tends to
FAR_DEX = 0.5  # how far beyond the family's compute a law is followed without naming the distance


class Point(NamedTuple):
    """A model on an axis: compute (any unit), error as a fraction, and bootstrap draws of each where there are any."""

    compute: float
    error: float
    compute_draws: np.ndarray | None = None
    error_draws: np.ndarray | None = None


@dataclass(frozen=True)
class Family:
    """A dense family on one axis: its law, and draws of the law's a and b and of one more member's residual."""

    compute: np.ndarray
    error: np.ndarray
    law: PowerLaw
    a: np.ndarray
    b: np.ndarray
    residual: np.ndarray


@dataclass(frozen=True)
class Shift:
    """A variant against its family: shift = naive x rho**-p x standing, with rho = error / baseline error."""

    multiplier: Interval
    naive: float  # compute of the baseline / compute of the variant, blind to the error
    standing: float  # the baseline's own distance from the law, for which the technique deserves no credit
    stair: float | None  # the least dense member at most as wrong, over the variant; None when censored
    censored_over: float | None  # no dense member is that good: the shift on the staircase is more than this
    flags: tuple[str, ...]


def family_of(members: list[Point], draws: int = 1000, seed: int = 0) -> Family:
    """Fit a family and resample it: residuals over members, and test examples through the members' error draws.

    The i-th draw of every `error_draws` must use the same examples. Raises RequestError where no law can be fitted.
    """
    compute = np.array([member.compute for member in members], float)
    error = np.array([member.error for member in members], float)
    law = fit_power_law(compute, error)
    x, y = np.log10(compute), np.log10(error)
    # a fit's residuals are too small by the two degrees of freedom that it used, and of few members by Student's t
    widened = math.sqrt(law.n / (law.n - 2)) * student(law.n - 2) / NORMAL
    residuals = (y - law.a - law.b * x) * widened
    generator = np.random.default_rng(seed)
    drawn = (law.a + law.b * x)[:, None] + residuals[generator.integers(0, law.n, (law.n, draws))]
    for index, member in enumerate(members):
        if member.error_draws is not None:
            drawn[index] += _log_errors(member.error_draws) - y[index]
    b = ((x - law.x_mean)[:, None] * drawn).sum(axis=0) / law.x_spread
    a = drawn.mean(axis=0) - b * law.x_mean
    return Family(compute, error, law, a, b, residuals[generator.integers(0, law.n, draws)])


def _log_errors(draws: np.ndarray) -> np.ndarray:
    # a draw without any wrong example has no logarithm; it stands in as a tenth of the least error seen
    floor = draws[draws > 0].min() / 10 if (draws > 0).any() else 1e-9
    result: np.ndarray = np.log10(np.maximum(draws, floor))
    return result


def shift_of(family: Family, variant: Point, baseline: Point, seeds: int = 1) -> Shift | str:
    """Return how far a variant lies from its family, or in words why that cannot be said.

    All draws must use the same test examples as the family's. The interval also holds the scatter of dense models
    about their law, so it says where one more dense model could have stood.
    """
    law = family.law
    if not 0 < variant.error < 1 or not variant.compute > 0 or not math.isfinite(variant.compute):
        return "the variant has no error between 0 and 1, or no compute"
    if law.b >= 0:
        return "in this family the error does not fall with compute"
    wanted = law.compute_at(variant.error)
    log_error = math.log10(variant.error) if variant.error_draws is None else _log_errors(variant.error_draws)
    own = math.log10(variant.compute) if variant.compute_draws is None else np.log10(variant.compute_draws)
    falling = family.b < 0
    slopes = np.where(falling, family.b, -1e-3)
    logs = np.clip((log_error + family.residual - family.a) / slopes - own, -300, 300)
    as_good = family.compute[family.error <= variant.error]
    return Shift(
        multiplier=interval_of(wanted / variant.compute, 10**logs),
        naive=baseline.compute / variant.compute,
        standing=law.compute_at(baseline.error) / baseline.compute if 0 < baseline.error < 1 else math.nan,
        stair=float(as_good.min() / variant.compute) if len(as_good) else None,
        censored_over=None if len(as_good) else float(family.compute.max() / variant.compute),
        flags=tuple(_flags(law, wanted, variant.error, len(as_good), seeds)),
    )


def _flags(law: PowerLaw, wanted: float, error: float, as_good: int, seeds: int) -> list[str]:
    flags = []
    if not law.error_low <= error <= law.error_high:
        outside = max(math.log10(law.x_low / wanted), math.log10(wanted / law.x_high)) if wanted > 0 else math.inf
        flags.append(f"extrapolated by {outside:.1f} powers of ten" if outside > FAR_DEX else "extrapolated")
    if not as_good:
        flags.append("censored")
    if seeds < 2:
        flags.append("single seed")
    return flags + law.flags()
