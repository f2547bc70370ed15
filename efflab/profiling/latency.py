"""Interleaved latency: one process a session, blocks of calls in turn, so that drift of the machine hits all alike."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Annotated, Any, Self, TypedDict

from pydantic import Field, model_validator

from efflab.foundation import machine
from efflab.foundation.child import Child, Failure
from efflab.foundation.config import Settings
from efflab.foundation.progress import Report
from efflab.profiling import energy
from efflab.profiling.session_server import whole_turns

__all__ = ["Budget", "Failure", "LatencyJob", "Timing", "measure_group"]

WORKER = "efflab.profiling.session_server"
STEADY = 0.05  # IQR / median below which more samples would tell little
LEAST_ROUNDS = 3  # an interval over fewer rounds would be a fiction, whatever the budget
MOST_SAMPLES = 10_000  # a session; enough for p99.9, and a record stays small
SETTLE_S = 0.04  # the last session's threads spin on for some 20 ms: a call of 4.0 ms was seen to take 7.9 beside them
THROUGHPUT_PASSES, THROUGHPUT_S = 3, 0.05
MOST_BATCHES, LEAST_BATCHES, EXAMPLES = 64, 4, 256  # of sessions whose work depends on the input
PREPARE_S, WARM_UP_TURNS = 1.5, 3  # what estimates take of a session: to load it, and turns over the batches to warm up
CALL_S, EXAMPLE_S = 4e-3, 5e-4  # and of the calls of a small net
ANSWER_TIMEOUT_S, PATIENCE = 60.0, 20  # beyond so many times the time that the calls asked for should take


@dataclass(frozen=True)
class LatencyJob:
    """A session to measure: an artefact's folder on a backend; `inputs` is an .npz of its inputs (arr_0, arr_1, ...).

    They are those of `batches` batches, one batch after the other, over which the calls go in turn.
    """

    label: str
    artefact: Path
    backend: str
    settings: dict[str, Any]
    inputs: Path
    batches: int = 1


# the one definition of what can be asked for: a recipe's `measure` section takes its bounds from here
Runs = Annotated[int, Field(ge=1, le=100_000)]
LeastSeconds = Annotated[float, Field(gt=0, le=600)]
MostSeconds = Annotated[float, Field(gt=0, le=3600)]
Rounds = Annotated[int, Field(ge=LEAST_ROUNDS, le=1000)]


class Pace(Settings):
    """How long to measure a session: at least `min_runs` and `min_seconds`, at most `max_seconds` of timed calls."""

    min_runs: Runs = 130
    min_seconds: LeastSeconds = 0.3
    max_seconds: MostSeconds = 3.0
    rounds: Rounds = 10

    @model_validator(mode="after")
    def _most_is_more(self) -> Self:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds ({self.min_seconds:g}) is more than max_seconds ({self.max_seconds:g})")
        return self


class Budget(Pace):
    """How long to measure a session, and how long to wait for it to load."""

    prepare_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0


class _TimingOverInputs(TypedDict, total=False):
    inputs: int


class Timing(_TimingOverInputs):
    """The raw times of one session: `efflab.records.record.Latency` without its group."""

    rounds_ms: list[list[float]]
    overhead_us: float
    warmup_runs: int
    prepare_s: float
    throughput_per_s: float | None
    peak_memory_bytes: int | None
    energy_j: float | None
    energy_method: str
    quiet: bool
    threads: int


def measure_group(
    jobs: Sequence[LatencyJob], budget: Budget, threads: int, report: Report = lambda done, total, note: None
) -> dict[str, Timing | Failure]:
    """Measure sessions side by side; gives times, or the reason of failure, by label.

    Round i of every session ran right beside round i of the others. `report(done, total, note)` is told of progress.
    Raises ValueError for labels that are not unique or fewer threads than 1.
    """
    if len({job.label for job in jobs}) != len(jobs) or threads < 1:
        raise ValueError("labels must be unique, and threads at least 1")
    before, own = machine.load_state(0.2), machine.own_seconds()
    # spawned from this thread, since Linux ties the workers' lives to the thread that started them
    tracks: list[_Track] = []
    try:
        tracks += (_Track(job, threads, Child(WORKER, threads)) for job in jobs)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, _ in enumerate(pool.map(lambda track: track.prepare(budget), tracks), 1):
                report(0, budget.rounds, f"prepared {number} of {len(tracks)}")
        for number, track in enumerate(tracks, 1):
            track.warm_up(budget)
            report(0, budget.rounds, f"warmed up {number} of {len(tracks)}")
        _measure_rounds(tracks, budget, report)
        for turn in range(1, THROUGHPUT_PASSES + 1):
            for track in tracks:
                track.measure_throughput()
            report(budget.rounds, budget.rounds, f"throughput, {turn} of {THROUGHPUT_PASSES}")
        for track in tracks:
            track.finish()
    finally:
        for track in tracks:
            track.process.end()
    quiet = machine.quiet_between(before, machine.load_state(0.2), machine.own_seconds() - own)
    return {track.job.label: track.process.failure or track.timing(quiet) for track in tracks}


def _measure_rounds(tracks: list[_Track], budget: Budget, report: Report) -> None:
    done = 0
    going_on = [track for track in tracks if track.process.failure is None]
    while going_on:
        for track in tracks:  # stopped ones too: rounds are compared pairwise
            track.measure_block()
        going_on = [track for track in tracks if track.goes_on(budget)]
        done += 1
        report(min(done, budget.rounds), budget.rounds, f"round {done} of {len(tracks)} sessions")


@dataclass
class _Track:
    """What is gathered of one session; after a failure of its process every step does nothing."""

    job: LatencyJob
    threads: int
    process: Child
    block_calls: int = 1
    stopped: bool = False
    rounds_ms: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # what the process told of itself

    def prepare(self, budget: Budget) -> None:
        """Load and compile the artefact."""
        job = {"artefact": str(self.job.artefact), "inputs": str(self.job.inputs), "threads": self.threads}
        request = {**job, "backend": self.job.backend, "settings": self.job.settings, "batches": self.job.batches}
        self.facts.update(self.process.ask(request, budget.prepare_timeout_s, "preparing"))

    def warm_up(self, budget: Budget) -> None:
        """Call until times are steady, and choose the length of a block."""
        time.sleep(SETTLE_S)
        self.facts.update(self.process.ask({"do": "warm_up"}, budget.prepare_timeout_s, "warming up"))
        self.block_calls = self._whole(calls_a_block(self.facts.get("median_ns", 0.0) / 1e9, budget))

    def measure_block(self) -> None:
        """Measure one round; a session that has stopped only keeps its rounds level with the others'."""
        time.sleep(SETTLE_S)
        calls = self._whole(max(1, self.block_calls // 8)) if self.stopped else self.block_calls
        answer = self.process.ask({"do": "block", "calls": calls}, self._limit_s(calls), "being timed")
        overhead_ns = self.facts.get("overhead_ns", 0.0)
        self.rounds_ms.append([round(max(0.0, ns - overhead_ns) / 1e6, 6) for ns in answer.get("samples_ns", ())])

    def goes_on(self, budget: Budget) -> bool:
        """Say whether more must be known of this session, and its budget is not spent."""
        if not self.stopped and len(self.rounds_ms) >= LEAST_ROUNDS:
            self.stopped = enough([sample for block in self.rounds_ms for sample in block], budget, self.job.batches)
        return not self.stopped and self.process.failure is None

    def measure_throughput(self) -> None:
        """Run batches back to back for a short while."""
        if self.process.failure:
            return
        calls = self._whole(max(3, min(MOST_SAMPLES, round(THROUGHPUT_S / max(self._call_s(), 1e-9)))))
        time.sleep(SETTLE_S)
        gpu = energy.is_nvidia(self.facts["device"])
        request = {"do": "throughput", "calls": calls}
        answer = self.process.ask(request, self._limit_s(calls), "being timed", self._note_watts if gpu else None)
        if answer.get("elapsed_ns"):
            self.rates.append(calls * self.facts["batch_size"] / answer["elapsed_ns"] * 1e9)

    def finish(self) -> None:
        """Ask for what the process knows at the end."""
        self.facts.update(self.process.ask({"do": "finish"}, ANSWER_TIMEOUT_S, "finishing"))

    def timing(self, quiet: bool) -> Timing:
        """Return the record of a session that did not fail."""
        watts = median(self.watts) if self.watts else None
        rapl_j, device = self.facts["rapl_j"], self.facts["device"]
        joules, method = energy.energy_of_call(self._call_s(), self.threads, device, rapl_j, watts)
        timing: Timing = {
            "rounds_ms": self.rounds_ms,
            "overhead_us": self.facts["overhead_ns"] / 1e3,
            "warmup_runs": self.facts["calls"],
            "prepare_s": self.facts["prepare_s"],
            "throughput_per_s": median(self.rates) if self.rates else None,
            "peak_memory_bytes": self.facts["peak_memory_bytes"],
            "energy_j": joules,
            "energy_method": method,
            "quiet": quiet,
            "threads": self.threads,
        }
        if self.job.batches > 1:
            timing["inputs"] = self.job.batches
        return timing

    def _note_watts(self) -> None:
        watts = energy.gpu_watts()
        if watts is not None:
            self.watts.append(watts)

    def _call_s(self) -> float:
        """Return the seconds of one call: the median, and over several batches the mean of each one's median."""
        samples, batches = [sample for block in self.rounds_ms for sample in block], self.job.batches
        return fmean(median(samples[first::batches]) for first in range(batches)) / 1e3

    def _whole(self, calls: int) -> int:
        return whole_turns(calls, self.job.batches)

    def _limit_s(self, calls: int) -> float:
        return ANSWER_TIMEOUT_S + PATIENCE * calls * float(self.facts.get("median_ns", 0.0)) / 1e9


def calls_a_block(call_s: float, budget: Budget) -> int:
    """Return the timed calls of a round: enough for the least runs and seconds, within the most."""
    least = -(-budget.min_runs // budget.rounds)
    if call_s <= 0:
        return least
    wanted = max(least, round(budget.min_seconds / budget.rounds / call_s))
    affordable = max(1, int(budget.max_seconds / budget.rounds / call_s))
    return min(wanted, affordable, max(least, MOST_SAMPLES // budget.rounds))


def batches_for(batch_size: int) -> int:
    """Return over how many batches the calls go where the work depends on the input: fewer of larger ones."""
    return max(LEAST_BATCHES, min(MOST_BATCHES, EXAMPLES // batch_size))


def seconds_of(budget: Budget, batch_size: int, batches: int = 1) -> float:
    """Estimate the seconds that one session of a group takes, before anything is known of its model.

    Over several batches every part takes whole turns, however short the budget: warm-up, each round, each pass of
    throughput; a session that has stopped takes them too, for as long as another one of its group goes on.
    """
    timed, turn = budget.min_seconds, 0.0
    if batches > 1:
        turn = batches * (CALL_S + EXAMPLE_S * batch_size)
        timed = max(timed, LEAST_ROUNDS * turn, min(budget.rounds * turn, budget.max_seconds))
    return PREPARE_S + 1.5 * timed + (WARM_UP_TURNS + THROUGHPUT_PASSES) * turn


def longest_silence_s(budget: Budget) -> float:
    """Return for how many seconds `measure_group` may report nothing while all is well: one session's longest answer."""
    return budget.prepare_timeout_s + ANSWER_TIMEOUT_S + PATIENCE * budget.max_seconds


def enough(samples_ms: Sequence[float], budget: Budget, batches: int = 1) -> bool:
    """Say whether a session may stop: long and often enough and steady, or at the most seconds or samples.

    Over several batches, steady is said of the means of whole turns: the batches themselves may differ.
    """
    seconds = sum(samples_ms) / 1e3
    if seconds >= budget.max_seconds or len(samples_ms) >= max(MOST_SAMPLES, budget.min_runs):
        return True
    if len(samples_ms) < max(2, budget.min_runs) or 0 < seconds < budget.min_seconds:
        return False
    turns = [fmean(samples_ms[start : start + batches]) for start in range(0, len(samples_ms), batches)]
    if len(turns) < 2:
        return False
    low, middle, high = quantiles(turns, n=4)
    return high - low <= STEADY * middle
