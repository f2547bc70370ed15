"""Fits of error on compute through any cloud of points: power law or exponential form, with a year term, and robust kin.

After Thompson, Greenewald, Lee and Manso, "The Computational Limits of Deep Learning", arXiv 2007.05558, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from efflab.foundation.errors import RequestError
from efflab.frontier.fit import refusal
from efflab.statistics import Interval, interval_of

Form = Literal["power", "exponential"]
FIRST_YEAR = 2012  # AlexNet; the year term counts from here
FEWEST_FREE = 2  # points beyond the coefficients

# how each form sees an error, and back
SEEN: dict[Form, Callable[[np.ndarray], np.ndarray]] = {"power": np.log10, "exponential": lambda error: 1 / error}
BACK: dict[Form, Callable[[float], float]] = {"power": lambda y: 10**y, "exponential": lambda y: 1 / y}


@dataclass(frozen=True)
class Regression:
    """A fit y = a + b log10(compute) + g (year - 2012), with y = log10(error) or 1 / error, and its standard errors."""

    form: Form
    coefficients: tuple[float, ...]  # a, b and, with a year term, g
    errors: tuple[float, ...]  # standard errors, in the same order; NaN for quantile fits
    r2: float
    n: int
    residual_sd: float
    covariance: np.ndarray  # of the coefficients

    @property
    def a(self) -> float:
        """The intercept."""
        return self.coefficients[0]

    @property
    def b(self) -> float:
        """The slope on log10(compute)."""
        return self.coefficients[1]

    @property
    def g(self) -> float | None:
        """The change a year at equal compute, if years were given."""
        return self.coefficients[2] if len(self.coefficients) > 2 else None

    @property
    def power(self) -> float | None:
        """How many powers of ten of compute a power of ten less error takes: -1 / b; none for the exponential form."""
        return -1 / self.b if self.form == "power" and self.b else None

    @property
    def progress_dex(self) -> float | None:
        """Algorithmic progress in powers of ten of compute a year: g / b."""
        return self.g / self.b if self.g is not None and self.b else None

    def error_at(self, compute: float, year: float = FIRST_YEAR) -> float:
        """Return the error as a fraction at this compute (and year)."""
        return BACK[self.form](float(np.dot(self.coefficients, self._row(compute, year))))

    def band(self, compute: float, year: float = FIRST_YEAR) -> tuple[float, float]:
        """Return the 95 % prediction interval of the error of one more point; (NaN, NaN) for quantile fits."""
        from scipy.stats import t

        row = self._row(compute, year)
        spread = math.sqrt(self.residual_sd**2 + float(row @ self.covariance @ row))
        reach = float(t.ppf(0.975, self.n - len(row))) * spread
        middle = float(np.dot(self.coefficients, row))
        low, high = sorted(BACK[self.form](middle + sign * reach) for sign in (-1, 1))
        return low, high

    def _row(self, compute: float, year: float) -> np.ndarray:
        return np.array([1.0, math.log10(compute), year - FIRST_YEAR])[: len(self.coefficients)]


def _design(compute: np.ndarray, year: np.ndarray | None) -> np.ndarray:
    columns = [np.ones(len(compute)), np.log10(compute)]
    return np.column_stack(columns if year is None else [*columns, year - FIRST_YEAR])


def _checked(compute: np.ndarray, error: np.ndarray, year: np.ndarray | None) -> np.ndarray:
    needed = (2 if year is None else 3) + FEWEST_FREE
    if len(compute) < needed:
        raise RequestError(
            f"a fit of {needed - FEWEST_FREE} coefficients needs at least {needed} points (found {len(compute)})"
        )
    reason = refusal(compute, error)
    if reason:
        raise RequestError(reason.replace("family member", "point"))
    design = _design(compute, year)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise RequestError("compute and year cannot be told apart in these points (all years equal, or in step)")
    return design


def least_squares(
    compute: np.ndarray, error: np.ndarray, year: np.ndarray | None = None, form: Form = "power"
) -> Regression:
    """Fit by ordinary least squares; compute in any unit, errors as fractions.

    Raises RequestError, in words, for points that carry no fit (too few, zeros, NaN, one compute, one year).
    """
    design, seen = _checked(compute, error, year), SEEN[form](error)
    coefficients, *_ = np.linalg.lstsq(design, seen, rcond=None)
    residuals = seen - design @ coefficients
    free = len(seen) - design.shape[1]
    variance = float(residuals @ residuals) / free
    covariance = variance * np.linalg.inv(design.T @ design)
    return Regression(
        form=form,
        coefficients=tuple(map(float, coefficients)),
        errors=tuple(map(float, np.sqrt(np.diag(covariance)))),
        r2=_explained(seen, residuals),
        n=len(seen),
        residual_sd=math.sqrt(variance),
        covariance=covariance,
    )


def quantile_fit(
    compute: np.ndarray, error: np.ndarray, quantile: float, year: np.ndarray | None = None, form: Form = "power"
) -> Regression:
    """Fit the line that leaves a share `quantile` of the points below it (Koenker and Bassett 1978); 0.1 is a frontier.

    The quantile is that of the error: small ones are good models in either form. Standard errors are NaN: bootstrap.
    """
    from scipy.optimize import linprog

    if not 0 < quantile < 1:
        raise RequestError(f"a quantile lies between 0 and 1 (found {quantile:g})")
    design, seen = _checked(compute, error, year), SEEN[form](error)
    share = quantile if form == "power" else 1 - quantile  # 1 / error turns the order round
    n, k = design.shape
    # minimise share * over + (1 - share) * under, with seen = design @ (plus - minus) + over - under
    cost = np.concatenate([np.zeros(2 * k), np.full(n, share), np.full(n, 1 - share)])
    equal = np.hstack([design, -design, np.eye(n), -np.eye(n)])
    solved = linprog(cost, A_eq=equal, b_eq=seen, method="highs")
    coefficients = solved.x[:k] - solved.x[k : 2 * k]
    residuals = seen - design @ coefficients
    unknown = np.full((k, k), math.nan)
    return Regression(
        form, tuple(map(float, coefficients)), (math.nan,) * k, _explained(seen, residuals), n, math.nan, unknown
    )


def pareto(compute: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the indices of points that no other point beats in compute and error at once, by rising compute."""
    order = np.lexsort((error, compute))
    best_before = np.fmin.accumulate(np.concatenate([[math.inf], error[order]]))[:-1]
    return order[error[order] < best_before]


def bootstrap(
    refit: Callable[[np.ndarray], Regression],
    clusters: Sequence[object],
    draws: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Return coefficients (draws, k) of refits on clusters drawn with replacement; draws that carry no fit are left out.

    refit: takes indices of points. clusters: one label a point; points of one label are drawn together, since models
    of one paper or family are no independent witnesses.
    """
    labels = {label: number for number, label in enumerate(dict.fromkeys(clusters))}
    numbers = np.array([labels[label] for label in clusters], int)
    points, sizes = np.argsort(numbers, kind="stable"), np.bincount(numbers, minlength=len(labels))
    starts = np.cumsum(sizes) - sizes  # of each label's points in `points`
    generator = np.random.default_rng(seed)
    fits = []
    for _ in range(draws):
        drawn = generator.integers(0, len(labels), len(labels))
        shift = starts[drawn] - (np.cumsum(sizes[drawn]) - sizes[drawn])
        chosen = points[np.repeat(shift, sizes[drawn]) + np.arange(sizes[drawn].sum())]
        try:
            fits.append(refit(chosen).coefficients)
        except RequestError:
            continue
    return np.array(fits)


def intervals(regression: Regression, draws: np.ndarray) -> dict[str, Interval]:
    """Return bootstrap intervals of b, and of g and the yearly progress where there is a year term."""
    found = {"b": interval_of(regression.b, draws[:, 1])}
    if regression.g is not None and regression.progress_dex is not None:
        found["g"] = interval_of(regression.g, draws[:, 2])
        found["progress_dex"] = interval_of(regression.progress_dex, draws[:, 2] / draws[:, 1])
    return found


def _explained(seen: np.ndarray, residuals: np.ndarray) -> float:
    total = float(((seen - seen.mean()) ** 2).sum())
    return 1 - float(residuals @ residuals) / total if total > 0 else 0.0
