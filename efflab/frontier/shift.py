"""How far a variant lies from its dense family: the compute that the family needs for its error, over its own.

After Thompson et al. (arXiv 2007.05558), with C the compute, e the error, p = -1 / b the family's power, r = C0 / C1 and
rho = e1 / e0 of baseline 0 and variant 1: C_family(e1) / C1 = r x rho**-p x C_family(e0) / C0. The last factor is the
baseline's own standing, no merit of the technique; what is left of the product is the technique's shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from efflab.frontier.fit import PowerLaw, fit_power_law
from efflab.frontier.flags import Flag, FlagKind
from efflab.statistics import Interval, interval_of, mix_seeds, student
from efflab.statistics.intervals import NORMAL

FAR_DEX = 0.5  # how far beyond the family's compute a law is followed without naming the distance
FLATTEST = -1e-3  # slope that stands in for draws in which the error does not fall with compute
MOST_DEX = 300.0


class Point(NamedTuple):
    """A model on an axis: compute (any unit), error (a fraction, or a loss), and bootstrap draws where there are any.

    `compute_draws` has shape (draws,), `error_draws` (seeds, draws).
    """

    compute: float
    error: float
    compute_draws: np.ndarray | None = None
    error_draws: np.ndarray | None = None

    def log_compute(self) -> np.ndarray | float:
        """Return log10 of the compute, its draws where there are any."""
        return math.log10(self.compute) if self.compute_draws is None else np.log10(self.compute_draws)

    def log_errors(self) -> np.ndarray:
        """Return draws of log10(error), shape (seeds, draws); (1, 1) where there are none."""
        if self.error_draws is None:
            return np.array([[math.log10(self.error)]])
        errors = self.error_draws
        if errors.min() <= 0:
            # a draw without any wrong example has no logarithm; it stands in as a tenth of the least error seen
            seen = errors[errors > 0]
            errors = np.maximum(errors, seen.min() / 10 if len(seen) else 1e-9)
        logs: np.ndarray = np.log10(errors)
        return logs


@dataclass(frozen=True)
class Family:
    """A dense family on one axis: its law, and draws of the law's a and b and of one more member's residual."""

    compute: np.ndarray
    error: np.ndarray
    law: PowerLaw
    a: np.ndarray
    b: np.ndarray
    residual: np.ndarray
    most: float = 1.0  # errors lie below it

    def slopes(self) -> np.ndarray:
        """Return the draws of b, flat where the error does not fall with compute."""
        return np.where(self.b < 0, self.b, FLATTEST)


@dataclass(frozen=True)
class Shift:
    """A variant against its family and its baseline, on one axis of compute."""

    multiplier: Interval  # r x rho**-p: the technique's shift M, the baseline's own standing taken out
    logs: np.ndarray  # draws of log10 of it
    log_r: np.ndarray  # draws of log10 of r, of rho and of the variant's error, shape (draws,)
    log_rho: np.ndarray
    log_error: np.ndarray
    total: Interval  # the variant's whole distance from the law; the interval holds the scatter of dense models
    standing: float  # total / multiplier: the baseline's own distance from the law
    naive: float  # r: compute of the baseline / compute of the variant, blind to the error
    rho: float  # error of the variant / error of the baseline
    gain: Interval  # error at this compute by the law through the baseline, minus the variant's: a fraction
    dominates: float  # share of draws in which the variant is no worse and no dearer than its baseline, and one truly
    stair: float | None  # the least dense member at most as wrong, over the variant; None when censored
    censored_over: float | None  # no dense member is that good: the whole distance on the staircase is more than this
    flags: tuple[Flag, ...]


def family_of(members: list[Point], draws: int = 1000, seed: int = 0, most: float = 1.0) -> Family:
    """Fit a family and resample it: residuals over members, and test examples through the members' error draws.

    The i-th draw of every `error_draws` must use the same examples. What seeds differ by is in the residuals already.
    Raises RequestError where no law can be fitted.
    """
    compute = np.array([member.compute for member in members], float)
    error = np.array([member.error for member in members], float)
    law = fit_power_law(compute, error, most)
    x, y = np.log10(compute), np.log10(error)
    # a fit's residuals are too small by the two degrees of freedom that it used, and of few members by Student's t
    widened = math.sqrt(law.n / (law.n - 2)) * student(law.n - 2) / NORMAL
    residuals = (y - law.a - law.b * x) * widened
    generator = np.random.default_rng(seed)
    drawn = (law.a + law.b * x)[:, None] + residuals[generator.integers(0, law.n, (law.n, draws))]
    for index, member in enumerate(members):
        if member.error_draws is not None:
            drawn[index] += member.log_errors().mean(axis=0) - y[index]
    b = ((x - law.x_mean)[:, None] * drawn).sum(axis=0) / law.x_spread
    a = drawn.mean(axis=0) - b * law.x_mean
    return Family(compute, error, law, a, b, residuals[generator.integers(0, law.n, draws)], most)


def shift_of(family: Family, variant: Point, baseline: Point, seeds: int = 1) -> Shift | str:
    """Return how far a variant lies from its family, or in words why that cannot be said.

    All draws must use the same test examples as the family's, and those of baseline and variant the same rounds and, in
    the same order, the same seeds, so that what they share cancels. The interval of `total` also holds the scatter of
    dense models about their law: it says where one more dense model could have stood.
    """
    law = family.law
    where = f"between 0 and {family.most:g}" if math.isfinite(family.most) else "above 0"
    if not 0 < variant.error < family.most or not variant.compute > 0 or not math.isfinite(variant.compute):
        return f"the variant has no error {where}, or no compute"
    if not 0 < baseline.error < family.most or not baseline.compute > 0:
        return f"the baseline has no error {where}, or no compute"
    if law.b >= 0:
        return "in this family the error does not fall with compute"
    wanted = law.compute_at(variant.error)
    naive, rho = baseline.compute / variant.compute, variant.error / baseline.error
    slopes = family.slopes()
    log_r = baseline.log_compute() - variant.log_compute()
    errors = variant.log_errors()
    log_error, log_rho = mix_seeds(errors), mix_seeds(errors - baseline.log_errors())
    logs = np.clip(log_r + log_rho / slopes, -MOST_DEX, MOST_DEX)
    distance = (log_error + family.residual - family.a) / slopes - variant.log_compute()
    standing = law.compute_at(baseline.error) / baseline.compute
    as_good = family.compute[family.error <= variant.error]
    return Shift(
        multiplier=interval_of(naive * rho ** (1 / law.b), 10**logs),
        logs=_kept(logs, len(slopes)),
        log_r=_kept(log_r, len(slopes)),
        log_rho=_kept(log_rho, len(slopes)),
        log_error=_kept(log_error, len(slopes)),
        total=interval_of(wanted / variant.compute, 10 ** np.clip(distance, -MOST_DEX, MOST_DEX)),
        standing=standing,
        naive=naive,
        rho=rho,
        gain=interval_of(
            baseline.error * naive**-law.b - variant.error,
            10 ** (log_error - log_rho - slopes * log_r) - 10 ** (log_error + 0 * slopes),
        ),
        dominates=_dominates(log_r, log_rho),
        stair=float(as_good.min() / variant.compute) if len(as_good) else None,
        censored_over=None if len(as_good) else float(family.compute.max() / variant.compute),
        flags=tuple(_flags(law, wanted, variant.error, len(as_good), seeds)),
    )


def without_draws(shift: Shift) -> Shift:
    """Return a shift as it is told, without the draws behind it."""
    none = np.empty(0, np.float32)
    return replace(shift, logs=none, log_r=none, log_rho=none, log_error=none)


def _kept(draws: np.ndarray | float, count: int) -> np.ndarray:
    """Return draws as a large study can afford to keep them: one number where all are equal."""
    if isinstance(draws, float) or draws.ndim == 0:
        return np.broadcast_to(np.float32(draws), (count,))
    return np.broadcast_to(np.float32(draws[0]), (count,)) if len(draws) == 1 else draws.astype(np.float32)


def _dominates(log_r: np.ndarray | float, log_rho: np.ndarray) -> float:
    return float(np.mean((log_r >= 0) & (log_rho <= 0) & ((log_r > 0) | (log_rho < 0))))


def _flags(law: PowerLaw, wanted: float, error: float, as_good: int, seeds: int) -> list[Flag]:
    flags = []
    if not law.error_low <= error <= law.error_high:
        outside = max(math.log10(law.x_low / wanted), math.log10(wanted / law.x_high)) if wanted > 0 else math.inf
        far = f"by {outside:.1f} powers of ten" if outside > FAR_DEX else ""
        flags.append(Flag(FlagKind.EXTRAPOLATED, far))
    if not as_good:
        flags.append(Flag(FlagKind.CENSORED))
    if seeds < 2:
        flags.append(Flag(FlagKind.SINGLE_SEED))
    return flags + law.flags()
