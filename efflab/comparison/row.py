"""A row of a comparison in its parts, and the records behind it.

Readers of the package take attributes; tables and expressions of users go by the names of COLUMNS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from efflab.comparison.columns import COLUMNS
from efflab.comparison.place import Place
from efflab.foundation.errors import Status
from efflab.frontier.flags import Flag, FlagKind
from efflab.records.quality import SHARE
from efflab.records.record import Latency, Record, Role
from efflab.statistics import UNKNOWN, Interval


@dataclass
class Counted:
    """The work of one forward pass of one example, and the size of the model."""

    macs: int | None = None
    effective_macs: int | None = None
    bit_operations: int | None = None
    params: int | None = None
    nonzero_params: int | None = None
    artefact_bytes: int | None = None
    coverage: float | None = None


@dataclass
class Scored:
    """How good a model is on the test split, its mean over seeds."""

    metric: str | None = None
    value: float | None = None
    ends: Interval = UNKNOWN  # of the value; not known where only the task can say how its error follows
    unit: str = SHARE  # of differences and margins
    others: dict[str, float] = field(default_factory=dict)  # the task's further metrics
    error: Interval = UNKNOWN  # without ends where the scores cannot be resampled
    promised: float | None = None
    promise: str | None = None


@dataclass
class Timed:
    """How long a call takes, and what it needs."""

    call_ms: Interval = UNKNOWN
    iqr_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    calls: int | None = None
    starts: int | None = None
    inputs: int | None = None
    throughput_per_s: float | None = None
    peak_memory_bytes: int | None = None
    prepare_s: float | None = None
    energy_j: float | None = None
    energy_method: str | None = None
    quiet: bool | None = None
    threads: int | None = None


@dataclass
class Against:
    """A row beside the baseline at its place."""

    difference: Interval = (
        UNKNOWN  # by how much it is better, in the metric's unit; without ends where the scores cannot be resampled
    )
    beyond_training: Interval = UNKNOWN  # the same against the baseline trained on as long
    quality_verdict: str | None = None
    margin: float | None = None
    speedup: Interval = UNKNOWN
    speed_verdict: str | None = None
    surest: float | None = None  # lower end of the speed-up, in an interval that holds together with the study's others
    noise_floor: float | None = None
    theory: float | None = None
    theory_effective: float | None = None
    theory_bits: float | None = None
    size_ratio: float | None = None
    realisation: float | None = None
    beaten_by: str | None = None


@dataclass
class Spent:
    """What a model took to make, and after how many inferences that is saved again."""

    recovery_macs: float | None = None
    recovery_s: float | None = None
    training_macs: float | None = None
    break_even: float | None = None
    break_even_words: str | None = None
    break_even_time: float | None = None


@dataclass(frozen=True)
class AxisShift:
    """The shift of a row on one axis of compute."""

    shift: Interval = UNKNOWN
    total: Interval = UNKNOWN
    of_baseline: float | None = None
    stair: float | None = None
    over: float | None = None
    gain: Interval = UNKNOWN  # in the metric's unit
    dominates: float | None = None
    beyond: Interval = UNKNOWN  # the shift against the baseline trained on as long; not known of what does not train
    flags: tuple[Flag, ...] | None = None  # None where the axis was not asked for, or not measured

    @property
    def judged(self) -> Interval:
        """The shift that a technique can claim: of what trains, the part beyond training alone."""
        return self.beyond if self.beyond.known else self.shift

    def has(self, kind: FlagKind) -> bool:
        """Say whether it has a flag of this kind."""
        return any(flag.kind is kind for flag in self.flags or ())


NO_SHIFT = AxisShift()


@dataclass(eq=False)
class Row:
    """One model at one place, over its seeds; what was not measured is None, or an interval that is not known."""

    study: str
    place: Place
    variant: str
    role: Role
    steps: tuple[str, ...]
    baseline: str
    of: str | None
    family: str | None
    status: Status = "ok"
    reason: str = ""
    n_seeds: int = 0
    work: Counted = field(default_factory=Counted)
    quality: Scored = field(default_factory=Scored)
    time: Timed = field(default_factory=Timed)
    against: Against = field(default_factory=Against)
    cost: Spent = field(default_factory=Spent)
    shifts: dict[str, AxisShift] = field(default_factory=dict)  # by axis
    pareto: bool | None = None

    def shift(self, axis: str) -> AxisShift:
        """Return the shift on an axis; an empty one where there is none."""
        return self.shifts.get(axis, NO_SHIFT)

    def __getitem__(self, column: str) -> Any:
        """Return a column by the name that users know it by."""
        return COLUMNS[column].read(self) if column in COLUMNS else self.quality.others.get(column)

    def flat(self) -> dict[str, Any]:
        """Return all columns by name, those of further metrics last."""
        return {name: column.read(self) for name, column in COLUMNS.items()} | self.quality.others


@dataclass
class Cell:
    """The records behind one row."""

    row: Row
    records: list[Record]  # all seeds
    fine: list[Record] = field(default_factory=list)  # those that were measured
    scored: dict[int, Record] = field(default_factory=dict)  # by seed; quality does not depend on the batch size
    timed: Record | None = None  # the one seed whose latency was taken
    error: float | None = None  # mean over seeds, a fraction
    error_draws: np.ndarray | None = None  # of that mean
    error_by_seed: np.ndarray | None = None  # (seeds, draws), in the order of `scored`

    @property
    def latency(self) -> Latency | None:
        """The latency record, if there is one."""
        return self.timed["latency"] if self.timed else None

    def partner(self, seed: int) -> Record:
        """Return the scored record with which another row's of this seed is paired: of the same seed, else the first."""
        return self.scored.get(seed, next(iter(self.scored.values())))
