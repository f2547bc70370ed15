"""The law of a dense family: error falls as a power of compute, log10(error) = a + b log10(compute).

After Thompson, Greenewald, Lee and Manso, "The Computational Limits of Deep Learning", arXiv 2007.05558.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from efflab.foundation.errors import RequestError
from efflab.frontier.flags import Flag, FlagKind
from efflab.statistics import student

FEWEST, FEW = 3, 5  # fewer members than the first: no law; fewer than the second: a flag


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law with what its bands need; errors are fractions, compute is in any unit."""

    a: float
    b: float
    se_b: float
    n: int
    r2: float
    residual_sd: float  # of log10(error)
    x_mean: float  # of log10(compute)
    x_spread: float  # sum of squared deviations of log10(compute)
    x_low: float  # compute of the least and the largest member
    x_high: float
    error_low: float
    error_high: float

    @property
    def power(self) -> float:
        """How many times the compute grows, in powers of ten, for a power of ten in error: -1 / b."""
        return -1 / self.b

    def error_at(self, compute: float) -> float:
        """Return the error of a family member with this compute."""
        return float(10 ** (self.a + self.b * math.log10(compute)))

    def compute_at(self, error: float) -> float:
        """Return the compute at which the family reaches this error; infinite where the slope is flat."""
        exponent = (math.log10(error) - self.a) / self.b if self.b else math.inf
        return float(10**exponent) if exponent < 300 else math.inf

    def band(self, compute: float) -> tuple[float, float]:
        """Return the 95 % prediction band of the error of one more member with this compute."""
        x = math.log10(compute)
        share = 1 + 1 / self.n + (x - self.x_mean) ** 2 / self.x_spread
        reach = student(self.n - 2) * self.residual_sd * math.sqrt(share)
        middle = self.a + self.b * x
        return 10 ** (middle - reach), 10 ** (middle + reach)

    def flags(self) -> list[Flag]:
        """Say what makes this law weak."""
        weak = [Flag(FlagKind.SMALL_FAMILY, f"(n = {self.n})")] if self.n < FEW else []
        if not self.significant:
            weak.append(Flag(FlagKind.SLOPE))
        return weak

    @property
    def significant(self) -> bool:
        """Whether the error surely falls with compute: b negative and at least two standard errors from 0."""
        return self.b < 0 and -self.b >= 2 * self.se_b


def refusal(
    compute: Sequence[float] | np.ndarray, error: Sequence[float] | np.ndarray, most: float = 1.0
) -> str | None:
    """Say in words why no law can be fitted to these members, or None; errors must lie below `most`."""
    x, e = np.asarray(compute, float), np.asarray(error, float)
    if len(x) != len(e):
        return f"{len(x)} compute values for {len(e)} errors"
    if len(x) < FEWEST:
        return f"a law needs at least {FEWEST} family members (found {len(x)})"
    if not (np.isfinite(x).all() and np.isfinite(e).all()):
        return "a family member has no finite compute or error"
    if (x <= 0).any():
        return "a family member has no compute (0 or less)"
    if (e <= 0).any() or (e >= most).any():
        ends = f"0 or {most:g}" if math.isfinite(most) else "0"
        return f"a family member has an error of {ends}, which has no place on a power law"
    if np.ptp(np.log10(x)) < 1e-9:
        return "all family members have the same compute"
    return None


def fit_power_law(
    compute: Sequence[float] | np.ndarray, error: Sequence[float] | np.ndarray, most: float = 1.0
) -> PowerLaw:
    """Fit by ordinary least squares in log10; raise RequestError saying why where no law can be fitted.

    Errors are shares and lie below 1; those of a loss have no upper end: `most` is then infinite.
    """
    reason = refusal(compute, error, most)
    if reason:
        raise RequestError(reason)
    x, y = np.log10(np.asarray(compute, float)), np.log10(np.asarray(error, float))
    n, mean, spread = len(x), float(x.mean()), float(((x - x.mean()) ** 2).sum())
    b = float(((x - mean) * (y - y.mean())).sum() / spread)
    a = float(y.mean() - b * mean)
    residual = float(((y - a - b * x) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    sd = math.sqrt(residual / (n - 2))
    return PowerLaw(
        a=a, b=b, se_b=sd / math.sqrt(spread), n=n, r2=1 - residual / total if total > 0 else 0.0, residual_sd=sd,
        x_mean=mean, x_spread=spread, x_low=float(10 ** x.min()), x_high=float(10 ** x.max()),
        error_low=float(10 ** y.min()), error_high=float(10 ** y.max()),
    )  # fmt: skip
