"""The published field as a reference: the law of an area's records, and the paper's own exponent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efflab.foundation.errors import RequestError
from efflab.frontier.reference import areas, reference
from efflab.frontier.regression import Regression, least_squares, pareto
from efflab.frontier.shift import FLATTEST, MOST_DEX, Shift
from efflab.statistics import Interval, interval_of

FEWEST = 5
# ImageNet top-1 error on operations of a forward pass, 110 models: Thompson et al. (arXiv 2007.05558), the authors' fit
PAPER_EXPONENT = -0.0821
PAPER_ERROR = 0.0064  # its standard error, |b| sqrt((1 / R2 - 1) / (n - 2)) of R2 = .606


@dataclass(frozen=True)
class Field:
    """The law of published models of one area: error on MACs of one example."""

    area: str
    law: Regression
    on: str  # which records were fitted
    names: tuple[str, ...]
    macs: np.ndarray
    error: np.ndarray


def field_of(task: str) -> Field | str:
    """Return the law of the records of a task's area, or in words why there is none.

    Fitted are the records that no other beats (the frontier), where they are at least five, else all of them; models
    trained on extra data are left out. Refused are fewer than five records and slopes within two standard errors of 0.
    """
    if task not in areas():
        return f"there are no published records for {task}"
    rows = [row for row in reference(task).rows if row["macs"] and row["error"] and row["extra_data"] in ("", "0")]
    if len(rows) < FEWEST:
        return f"only {len(rows)} published records of {task} have MACs"
    macs, error = (np.array([float(row[name]) for row in rows]) for name in ("macs", "error"))
    front = pareto(macs, error)
    chosen, on = (
        (front, "records that no other beats") if len(front) >= FEWEST else (np.arange(len(rows)), "all records")
    )
    try:
        law = least_squares(macs[chosen], error[chosen])
    except RequestError as refused:
        return str(refused)
    if -law.b < 2 * law.errors[1]:
        return f"the slope of the published records of {task} is not significant"
    return Field(task, law, on, tuple(row["model"] for row in rows), macs, error)


def multiplier(shift: Shift, exponent: float, error: float = 0.0) -> Interval:
    """Return M = r x rho**(1 / exponent) of a shift by the exponent of another law, known to a standard error."""
    logs = shift.log_r + shift.log_rho / _slopes(exponent, error, len(shift.log_r))
    return interval_of(shift.naive * shift.rho ** (1 / exponent), 10 ** np.clip(logs, -MOST_DEX, MOST_DEX))


def distance(shift: Shift, compute: float, error: float, law: Regression) -> Interval:
    """Return the compute that a published law asks for an error, over this compute; the variant's and the law's draws.

    The interval holds how surely the law's line is known, not the scatter of single models about it.
    """
    drawn = np.random.default_rng(1).multivariate_normal(law.coefficients[:2], law.covariance[:2, :2], len(shift.log_r))
    slopes = np.minimum(drawn[:, 1], FLATTEST)
    logs = (shift.log_error - drawn[:, 0]) / slopes - np.log10(compute)
    value = 10 ** ((np.log10(error) - law.a) / law.b - np.log10(compute))
    return interval_of(float(value), 10 ** np.clip(logs, -MOST_DEX, MOST_DEX))


def _slopes(exponent: float, error: float, draws: int) -> np.ndarray:
    slopes: np.ndarray = np.minimum(exponent + error * np.random.default_rng(0).standard_normal(draws), FLATTEST)
    return slopes
