"""What a task measures: the name of a metric, the error that goes with its value, and the unit of differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from efflab.records.quality import SHARE, one_minus


class Metric(NamedTuple):
    """A metric of a task.

    Verdicts, margins and the frontier use its error: 0 is the best, and less is better. For a share of right answers it
    is 1 - value, which is the default; for a loss it is the value: `Metric("loss", lambda loss: loss, "nats")`. A function of the
    task's own takes a value and returns a number, for instance `math.log` of a perplexity.
    """

    name: str
    error: Callable[[Any], Any] = one_minus
    unit: str = SHARE  # "points" for shares (hundredths), else the unit's own name, such as "nats"
