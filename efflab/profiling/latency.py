"""Interleaved latency: every session in several starts, blocks of calls in turn, so that drift of the machine hits all alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import fmean, median
from typing import TypedDict

from efflab.foundation import machine, registry
from efflab.foundation.child import Child, Failure
from efflab.foundation.fork_server import ForkServer, can_fork_safely
from efflab.foundation.processes import Start
from efflab.foundation.progress import Report
from efflab.profiling import energy
from efflab.profiling.pace import Budget
from efflab.profiling.session import LatencyJob, Started

__all__ = ["Budget", "Failure", "LatencyJob", "Timing", "measure_group"]

WORKER, FORK_SERVER = "efflab.profiling.session_server", "efflab.profiling.session_fork_server"


class _TimingOverInputs(TypedDict, total=False):
    inputs: int


class Timing(_TimingOverInputs):
    """The raw times of one session: `efflab.records.record.Latency` without its group."""

    rounds_ms: list[list[float]]
    starts: list[int]
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

    Each of `budget.processes` starts has all sessions in fresh processes, and round i of every one ran right beside round i
    of the others. `report(done, total, note)` is told of progress. A session that fails in one start is in no further one.
    Raises ValueError for labels that are not unique or fewer threads than 1.
    """
    if len({job.label for job in jobs}) != len(jobs) or threads < 1:
        raise ValueError("labels must be unique, and threads at least 1")
    before, own = machine.load_state(0.2), machine.own_seconds()
    started: dict[str, list[Started]] = {job.label: [] for job in jobs}
    failed: dict[str, Failure] = {}
    with _starts(jobs, threads) as start:
        for number in range(budget.processes):
            going = [job for job in jobs if job.label not in failed]
            for one in _measure_start(going, budget, threads, start, _within(report, number, budget)):
                started[one.job.label].append(one)
                if one.process.failure:
                    failed[one.job.label] = one.process.failure
    quiet = machine.quiet_between(before, machine.load_state(0.2), machine.own_seconds() - own)
    return {label: failed.get(label) or _timing(several, quiet) for label, several in started.items()}


@contextmanager
def _starts(jobs: Sequence[LatencyJob], threads: int) -> Iterator[Start | None]:
    """Give the way to start the processes of a group: copies of one that has the runtime imported, where that can be."""
    modules = sorted({name for job in jobs for name in registry.load("backends", job.backend).imports})
    server = None
    if can_fork_safely():
        for some in dict.fromkeys((tuple(modules), ())):  # a runtime that starts threads is imported by each copy
            server = ForkServer(FORK_SERVER, threads, some)
            if server.failure is None:
                break
            server.end()
            server = None
    try:
        yield server.start if server else None
    finally:
        if server:
            server.end()


def _within(report: Report, start: int, budget: Budget) -> Report:
    """Return a report of one start that speaks of all."""
    rounds, starts = budget.share().rounds, budget.processes
    which = f"start {start + 1} of {starts}, " if starts > 1 else ""
    return lambda done, _, note: report(start * rounds + done, starts * rounds, which + note)


def _measure_start(
    jobs: Sequence[LatencyJob], budget: Budget, threads: int, start: Start | None, report: Report
) -> list[Started]:
    """Start each session once, and measure its share of the budget."""
    rounds = budget.share().rounds
    # started from this thread, since Linux ties the workers' lives to the thread that started them
    sessions: list[Started] = []
    try:
        sessions += (Started(job, threads, Child(WORKER, threads, start)) for job in jobs)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, _ in enumerate(pool.map(lambda one: one.prepare(budget), sessions), 1):
                report(0, rounds, f"prepared {number} of {len(sessions)}")
        for number, one in enumerate(sessions, 1):
            one.warm_up(budget)
            report(0, rounds, f"warmed up {number} of {len(sessions)}")
        _measure_rounds(sessions, budget, report)
        for one in sessions:
            one.measure_throughput()
        report(rounds, rounds, "throughput")
        for one in sessions:
            one.finish()
    finally:
        for one in sessions:
            one.process.end()
    return sessions


def _measure_rounds(sessions: list[Started], budget: Budget, report: Report) -> None:
    done, planned = 0, budget.share().rounds
    going_on = [one for one in sessions if one.process.failure is None]
    while going_on:
        for one in sessions:  # those of which enough is known, too: rounds are compared pairwise
            one.measure_block(budget)
        going_on = [one for one in sessions if one.goes_on(budget)]
        done += 1
        report(min(done, planned), planned, f"round {done} of {len(sessions)} sessions")


def _timing(starts: list[Started], quiet: bool) -> Timing:
    """Return the record of a session that did not fail in any of its starts."""
    facts = [one.facts for one in starts]
    watts = [one for start in starts for one in start.watts]
    rates = [one.rate_per_s for one in starts if one.rate_per_s is not None]
    memory = [one["peak_memory_bytes"] for one in facts if one["peak_memory_bytes"] is not None]
    rapl = [one["rapl_j"] for one in facts if one["rapl_j"] is not None]
    joules, method = energy.energy_of_call(
        median(one.call_s() for one in starts),
        starts[0].threads,
        facts[0]["device"],
        fmean(rapl) if rapl else None,
        median(watts) if watts else None,
    )
    timing: Timing = {
        "rounds_ms": [block for one in starts for block in one.rounds_ms],
        "starts": [len(one.rounds_ms) for one in starts],
        "overhead_us": median(one["overhead_ns"] for one in facts) / 1e3,
        "warmup_runs": sum(one["calls"] for one in facts),
        "prepare_s": median(one["prepare_s"] for one in facts),
        "throughput_per_s": median(rates) if rates else None,
        "peak_memory_bytes": max(memory) if memory else None,
        "energy_j": joules,
        "energy_method": method,
        "quiet": quiet,
        "threads": starts[0].threads,
    }
    if starts[0].job.batches > 1:
        timing["inputs"] = starts[0].job.batches
    return timing
