"""How long to measure a session, how it is shared out over its starts and rounds, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, quantiles
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from efflab.foundation.config import Settings

STEADY = 0.05  # IQR / median below which more samples would tell little
LEAST_ROUNDS = 3  # an interval over fewer rounds would be a fiction, whatever the budget
MOST_SAMPLES = 10_000  # a session; enough for p99.9, and a record stays small
WALL_S = 3.0  # what a block may take by the driver's own clock, as a multiple of what the session's clock may say
MOST_BATCHES, LEAST_BATCHES, EXAMPLES = 64, 4, 256  # of sessions whose work depends on the input
THROUGHPUT_S = 0.05  # of batches back to back, in each start
PREPARE_S, WARM_UP_S, WARM_UP_TURNS = (
    0.35,
    0.1,
    3,
)  # what estimates take of a start: loading, warming up, turns over batches
START_SERVER_S = 2.0  # of a group: to import its runtime
CALL_S, EXAMPLE_S = 4e-3, 5e-4  # and of the calls of a small net
ANSWER_TIMEOUT_S, PATIENCE = 60.0, 20  # beyond so many times the time that the calls asked for should take

# the one definition of what can be asked for: a recipe's `measure` section takes its bounds from here
Runs = Annotated[int, Field(ge=1, le=100_000)]
LeastSeconds = Annotated[float, Field(gt=0, le=600)]
MostSeconds = Annotated[float, Field(gt=0, le=3600)]
Rounds = Annotated[int, Field(ge=LEAST_ROUNDS, le=1000)]
Processes = Annotated[int, Field(ge=1, le=50)]


class Share(NamedTuple):
    """What one start of a session is to be measured for."""

    min_runs: int
    min_seconds: float
    max_seconds: float
    rounds: int  # planned
    least_rounds: int
    most_samples: int


class Pace(Settings):
    """How long to measure a session: at least `min_runs` and `min_seconds`, at most `max_seconds` of timed calls.

    All of it is shared out over `processes` starts, each in a process of its own, and over the rounds of each.
    """

    min_runs: Runs = 130
    min_seconds: LeastSeconds = 0.3
    max_seconds: MostSeconds = 3.0
    rounds: Rounds = 10
    processes: Processes = 5

    @model_validator(mode="after")
    def _most_is_more(self) -> Self:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds ({self.min_seconds:g}) is more than max_seconds ({self.max_seconds:g})")
        return self

    def share(self) -> Share:
        """Return what each start is measured for."""
        n = self.processes
        runs, rounds, least = (-(-whole // n) for whole in (self.min_runs, self.rounds, LEAST_ROUNDS))
        return Share(runs, self.min_seconds / n, self.max_seconds / n, rounds, least, MOST_SAMPLES // n)


class Budget(Pace):
    """How long to measure a session, and how long to wait for it to load."""

    prepare_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0


def calls_a_block(call_s: float, share: Share, rounds: int = 0, runs: int = 0, seconds: float = 0.0) -> int:
    """Return the timed calls of the next round of a start, by what its calls have been seen to take.

    rounds, runs, seconds: what the start has behind it. The planned rounds that are left meet the least runs and seconds
    together; rounds beyond the plan are as long as it would have them.
    """
    left = share.rounds - rounds
    if left <= 0:
        left, runs, seconds = share.rounds, 0, 0.0
    least = max(1, -(-(share.min_runs - runs) // left))
    if call_s <= 0:
        return least
    wanted = max(least, round((share.min_seconds - seconds) / left / call_s))
    affordable = max(1, int((share.max_seconds - seconds) / left / call_s))
    return min(wanted, affordable, max(least, share.most_samples // share.rounds))


def enough(samples_ms: Sequence[float], rounds: int, share: Share, batches: int = 1, wall_s: float = 0.0) -> bool:
    """Say whether a start may stop: long and often enough and steady, or at the most seconds or samples.

    Over several batches, steady is said of the means of whole turns: the batches themselves may differ. wall_s: what the
    blocks took by the driver's clock, which bounds a session whose own clock says too little.
    """
    if rounds < share.least_rounds:
        return False
    seconds = sum(samples_ms) / 1e3
    if seconds >= share.max_seconds or wall_s >= WALL_S * share.max_seconds:
        return True
    if len(samples_ms) >= max(share.most_samples, share.min_runs):
        return True
    if len(samples_ms) < max(2, share.min_runs) or 0 < seconds < share.min_seconds:
        return False
    turns = [fmean(samples_ms[start : start + batches]) for start in range(0, len(samples_ms), batches)]
    if len(turns) < 2:
        return False
    low, middle, high = quantiles(turns, n=4)
    return high - low <= STEADY * middle


def batches_for(batch_size: int) -> int:
    """Return over how many batches the calls go where the work depends on the input: fewer of larger ones."""
    return max(LEAST_BATCHES, min(MOST_BATCHES, EXAMPLES // batch_size))


def seconds_of(budget: Budget, batch_size: int, batches: int = 1) -> float:
    """Estimate the seconds that one session of a group takes, before anything is known of its model.

    Over several batches every part takes whole turns, however short the budget: warm-up, each round, the pass of
    throughput; a session that has stopped takes them too, for as long as another one of its group goes on.
    """
    share, turn = budget.share(), 0.0
    timed = share.min_seconds
    if batches > 1:
        turn = batches * (CALL_S + EXAMPLE_S * batch_size)
        timed = max(timed, share.least_rounds * turn, min(share.rounds * turn, share.max_seconds))
    start = PREPARE_S + WARM_UP_S + 1.5 * timed + THROUGHPUT_S + (WARM_UP_TURNS + 1) * turn
    return budget.processes * start


def longest_silence_s(budget: Budget) -> float:
    """Return for how many seconds `measure_group` may report nothing while all is well: one session's longest answer."""
    return budget.prepare_timeout_s + ANSWER_TIMEOUT_S + PATIENCE * budget.max_seconds
