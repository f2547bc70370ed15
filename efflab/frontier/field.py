"""The published field as a reference: the law of an area's records, and the paper's own exponent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efflab.errors import RequestError
from efflab.frontier.reference import areas, reference
from efflab.frontier.regression import Regression, least_squares, pareto

FEWEST = 5
# ImageNet top-1 error on operations of a forward pass, 110 models: Thompson et al. (arXiv 2007.05558), the authors' fit
PAPER_EXPONENT = -0.0821


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


def multiplier(saving: float, error_ratio: float, exponent: float) -> float:
    """Return M = saving x (error ratio)**(1 / exponent), for a law's exponent below 0."""
    return float(saving * error_ratio ** (1 / exponent))
