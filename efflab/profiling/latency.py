"""Interleaved latency: one process a session, blocks of calls in turn, so that drift of the machine hits all alike."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated, Any, TypedDict

from pydantic import Field, model_validator

from efflab import environment
from efflab.config import Settings
from efflab.profiling import energy
from efflab.study import Status

STEADY = 0.05  # IQR / median below which more samples would tell little
LEAST_ROUNDS = 3  # an interval over fewer rounds would be a fiction, whatever the budget
MOST_SAMPLES = 10_000  # a session; enough for p99.9, and a record stays small
THROUGHPUT_PASSES, THROUGHPUT_S = 3, 0.1
ANSWER_TIMEOUT_S = 60.0  # beyond the time that the calls asked for should take

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Job:
    """A session to measure: an artefact's folder on a backend; `inputs` is an .npz of one batch (arr_0, arr_1, ...)."""

    label: str
    artefact: Path
    backend: str
    settings: dict[str, Any]
    inputs: Path


class Budget(Settings):
    """How long to measure a session: at least `min_runs` and `min_seconds`, at most `max_seconds` of timed calls."""

    min_runs: Annotated[int, Field(ge=1, le=100_000)] = 130
    min_seconds: Annotated[float, Field(gt=0, le=600)] = 0.3
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = 3.0
    rounds: Annotated[int, Field(ge=LEAST_ROUNDS, le=1000)] = 10
    prepare_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0

    @model_validator(mode="after")
    def _ordered(self) -> Budget:
        if self.max_seconds < self.min_seconds:
            raise ValueError("max_seconds must not be less than min_seconds")
        return self


class Timing(TypedDict):
    """The raw times of one session: `efflab.study.Latency` without its group."""

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


class Failure(str):
    """The reason why a session has no times, as a sentence; `status` tells a missing runtime from a failed one."""

    status: Status

    def __new__(cls, reason: str, status: Status = "failed") -> Failure:
        """Make a reason with its status."""
        failure = super().__new__(cls, reason)
        failure.status = status
        return failure


def measure_group(
    jobs: Sequence[Job], budget: Budget, threads: int, report: Report = lambda done, total, note: None
) -> dict[str, Timing | Failure]:
    """Measure sessions side by side; gives times, or the reason of failure, by label.

    Round i of every session ran right beside round i of the others. `report(done, total, note)` is told of progress.
    Raises ValueError for labels that are not unique or fewer threads than 1.
    """
    if len({job.label for job in jobs}) != len(jobs) or threads < 1:
        raise ValueError("labels must be unique, and threads at least 1")
    before, own = environment.load_state(0.2), _own_seconds()
    # spawned from this thread, since Linux ties the workers' lives to the thread that started them
    workers = [_Worker(job, threads) for job in jobs]
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(lambda worker: worker.prepare(budget.prepare_timeout_s), workers))
        for worker in workers:
            worker.warm_up(budget)
        _measure_rounds(workers, budget, report)
        for _ in range(THROUGHPUT_PASSES):
            for worker in workers:
                worker.measure_throughput()
        for worker in workers:
            worker.finish()
    finally:
        for worker in workers:
            worker.end()
    quiet = _quiet(before, environment.load_state(0.2), _own_seconds() - own)
    return {worker.job.label: worker.failure or worker.timing(quiet) for worker in workers}


def _measure_rounds(workers: list[_Worker], budget: Budget, report: Report) -> None:
    done = 0
    while any(worker.failure is None and not worker.stops(budget) for worker in workers):
        for worker in workers:
            worker.measure_block(budget)
        done += 1
        report(min(done, budget.rounds), budget.rounds, f"round {done} of {len(workers)} sessions")


@dataclass
class _Worker:
    """The parent's side of one session's process; after a failure every further step does nothing."""

    job: Job
    threads: int
    failure: Failure | None = None
    block_calls: int = 1
    stopped: bool = False
    rounds_ms: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # what the process told of itself
    watts: list[float] = field(default_factory=list)
    unread: bytes = b""

    def __post_init__(self) -> None:
        self.errors = tempfile.TemporaryFile()
        names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
        pinned = {f"{name}_{'' if name.endswith('MAXIMUM') else 'NUM_'}THREADS": str(self.threads) for name in names}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "efflab.profiling.session_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **pinned},
        )

    def prepare(self, timeout_s: float) -> None:
        job = {"artefact": str(self.job.artefact), "inputs": str(self.job.inputs), "threads": self.threads}
        self._ask({**job, "backend": self.job.backend, "settings": self.job.settings}, timeout_s, "preparing")

    def warm_up(self, budget: Budget) -> None:
        answer = self._ask({"do": "warm_up"}, budget.prepare_timeout_s, "warming up")
        call_s = answer.get("median_ns", 0.0) / 1e9
        self.block_calls = calls_a_block(call_s, budget)

    def measure_block(self, budget: Budget) -> None:
        """Measure one round; a session that has stopped only keeps its rounds level with the others'."""
        calls = max(1, self.block_calls // 8) if self.stopped else self.block_calls
        answer = self._ask({"do": "block", "calls": calls}, self._limit_s(calls), "being timed")
        overhead_ns = self.facts.get("overhead_ns", 0.0)
        samples = [round(max(0.0, ns - overhead_ns) / 1e6, 6) for ns in answer.get("samples_ns", ())]
        self.rounds_ms.append(samples)

    def stops(self, budget: Budget) -> bool:
        """Say whether enough is known of this session, or its budget spent."""
        if not self.stopped and len(self.rounds_ms) >= LEAST_ROUNDS:
            samples = [sample for block in self.rounds_ms for sample in block]
            self.stopped = enough(samples, budget)
        return self.stopped

    def measure_throughput(self) -> None:
        """Run batches back to back for a short while."""
        if self.failure:
            return
        calls = max(3, min(MOST_SAMPLES, round(THROUGHPUT_S / max(self._median_s(), 1e-9))))
        request = {"do": "throughput", "calls": calls}
        gpu = self.facts.get("device", "cpu") != "cpu"
        answer = self._ask(request, self._limit_s(calls), "being timed", energy.gpu_watts if gpu else None)
        if answer.get("elapsed_ns"):
            self.rates.append(calls * self.facts["batch_size"] / answer["elapsed_ns"] * 1e9)

    def finish(self) -> None:
        self._ask({"do": "finish"}, ANSWER_TIMEOUT_S, "finishing")

    def end(self) -> None:
        """End the process, whatever it does, and wait for it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self.errors.close()

    def timing(self, quiet: bool) -> Timing:
        watts = median(self.watts) if self.watts else None
        device = self.facts["device"]
        joules, method = energy.energy_of_call(self._median_s(), self.threads, device, self.facts.get("rapl_j"), watts)
        return {
            "rounds_ms": self.rounds_ms,
            "overhead_us": self.facts["overhead_ns"] / 1e3,
            "warmup_runs": self.facts["calls"],
            "prepare_s": self.facts["prepare_s"],
            "throughput_per_s": median(self.rates) if self.rates else None,
            "peak_memory_bytes": self.facts.get("peak_memory_bytes"),
            "energy_j": joules,
            "energy_method": method,
            "quiet": quiet,
            "threads": self.threads,
        }

    def _median_s(self) -> float:
        return median(sample for block in self.rounds_ms for sample in block) / 1e3

    def _limit_s(self, calls: int) -> float:
        return ANSWER_TIMEOUT_S + 20 * calls * self.facts.get("median_ns", 0.0) / 1e9

    def _ask(
        self, request: dict[str, Any], limit_s: float, doing: str, meanwhile: Callable[[], float | None] | None = None
    ) -> dict[str, Any]:
        """Send a command and return the answer; an empty one after a failure, which is noted."""
        if self.failure:
            return {}
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.failure = Failure(self._death(doing))
            return {}
        watts = meanwhile() if meanwhile else None
        if watts is not None:
            self.watts.append(watts)
        line = self._line(time.monotonic() + limit_s)
        if line is None:
            self.process.kill()
            self.failure = Failure(f"gave no answer within {limit_s:g} s while {doing}; ended")
            return {}
        if not line:
            self.failure = Failure(self._death(doing))
            return {}
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.failure = Failure(answer["error"], answer["status"])
            return {}
        self.facts.update({key: value for key, value in answer.items() if key != "samples_ns"})
        return answer

    def _line(self, deadline: float) -> bytes | None:
        """Return the next line; empty if the process ended, None if time is up."""
        assert self.process.stdout is not None
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            if not chunk:
                return b""
            self.unread += chunk
        line, _, self.unread = self.unread.partition(b"\n")
        return line

    def _death(self, doing: str) -> str:
        """Say how the process ended, with the last lines that it printed as errors."""
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return f"closed its connection while {doing}"
        self.errors.seek(0)
        printed = self.errors.read()[-4000:].decode(errors="replace").split("\n")
        last = " | ".join([line.strip() for line in printed if line.strip()][-3:])[-400:]
        if code < 0:
            name = signal.Signals(-code).name
            how = f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        else:
            how = f"ended with exit code {code}"
        return f"{how} while {doing}" + (f": {last}" if last else "")


def calls_a_block(call_s: float, budget: Budget) -> int:
    """Return the timed calls of a round: enough that `rounds` of them meet the least runs and seconds, within the most."""
    least = -(-budget.min_runs // budget.rounds)
    if call_s <= 0:
        return least
    wanted = max(least, round(budget.min_seconds / budget.rounds / call_s))
    affordable = max(1, int(budget.max_seconds / budget.rounds / call_s))
    return min(wanted, affordable, max(least, MOST_SAMPLES // budget.rounds))


def enough(samples_ms: Sequence[float], budget: Budget) -> bool:
    """Say whether a session may stop: long and often enough and steady, or at the most seconds or samples."""
    seconds = sum(samples_ms) / 1e3
    if seconds >= budget.max_seconds or len(samples_ms) >= max(MOST_SAMPLES, budget.min_runs):
        return True
    if len(samples_ms) < max(2, budget.min_runs) or 0 < seconds < budget.min_seconds:
        return False
    low, middle, high = quantiles(samples_ms, n=4)
    return high - low <= STEADY * middle


def _own_seconds() -> float:
    """Return the processor time of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _quiet(before: dict[str, Any], after: dict[str, Any], own_s: float) -> bool:
    """Say whether the machine was quiet before, after, and, beside our own work, in between."""
    during: dict[str, Any] = {"busy_share": 0.0, "steal_share": 0.0}
    if before["ticks"] and after["ticks"]:
        busy, steal, total = (late - early for early, late in zip(before["ticks"], after["ticks"], strict=True))
        own_ticks = own_s * os.sysconf("SC_CLK_TCK")
        if total > 0:
            during = {"busy_share": max(0.0, busy - own_ticks) / total, "steal_share": steal / total}
    return all(environment.quiet(state) for state in (before, during, after))
