"""A row of a comparison, and the records behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from efflab.records.record import Latency, Record

Row = dict[str, Any]


IDENTITY = ("variant", "role", "baseline", "family", "task", "backend", "device", "batch_size", "machine")


@dataclass
class Cell:
    """The records behind one row."""

    study: int
    row: Row
    records: list[Record]  # all seeds
    fine: list[Record] = field(default_factory=list)  # those that were measured
    scored: dict[int, Record] = field(default_factory=dict)  # by seed; quality does not depend on the batch size
    timed: Record | None = None  # the one seed whose latency was taken
    error: float | None = None  # mean over seeds, a fraction
    error_draws: np.ndarray | None = None  # of that mean
    error_by_seed: np.ndarray | None = None  # (seeds, draws), in the order of `scored`

    @property
    def place(self) -> tuple[Any, ...]:
        """What must be equal for two latencies to be comparable."""
        row = self.row
        return (self.study, row["backend"], row["device"], row["batch_size"], row["machine"])

    @property
    def latency(self) -> Latency | None:
        """The latency record, if there is one."""
        return self.timed["latency"] if self.timed else None

    def partner(self, seed: int) -> Record:
        """Return the scored record with which another row's of this seed is paired: of the same seed, else the first."""
        return self.scored.get(seed, next(iter(self.scored.values())))
