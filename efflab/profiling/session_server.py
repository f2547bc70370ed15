"""One session in a process of its own: prepares an artefact, then times blocks of calls on request.

The first request is the job, every further one a command. Started by `latency.measure_group`, alone or as
a copy of `session_fork_server`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, NamedTuple

from efflab.contracts.backend import LONGEST_CALL_NS
from efflab.foundation.child_server import serve
from efflab.foundation.errors import RequestError
from efflab.foundation.progress import Report
from efflab.foundation.wording import shown
from efflab.profiling import energy, memory

if TYPE_CHECKING:
    from efflab.contracts.backend import Session

AGREEMENT = 0.05  # two windows of warm-up whose medians differ by less are the same
MOST_WINDOWS = 15
WINDOW_S = 0.02
SLOWEST = 3.0  # a block may take so many times what warm-up foretold
WARMUP_S = 3.0  # warm-up ends at this even if windows still differ


def timed_calls(session: Session, batches: Sequence[Any], calls: int, limit_ns: float = float("inf")) -> list[int]:
    """Time single calls, each from start to finished outputs; gives nanoseconds of the session's clock.

    The calls go over the loaded `batches` in turn. Ends early, but not within a turn, once `limit_ns` is used up: a
    machine that others make slow must not stretch a block without end.
    """
    clock, run, wait = session.clock, session.run, session.wait
    samples: list[int] = []
    spent = 0
    collects = gc.isenabled()
    gc.disable()
    try:
        for call in range(calls):
            loaded = batches[call % len(batches)]
            start = clock()
            out = run(loaded)
            wait()
            samples.append(clock() - start)
            del out  # outside the timed region, as is the rest
            spent += samples[-1]
            if spent > limit_ns and not len(samples) % len(batches):
                break
    finally:
        if collects:
            gc.enable()
    return [_sane(sample) for sample in samples]


def _sane(elapsed: Any) -> int:
    """Return a time of a session's clock, which may be a plug-in's own; raise RequestError for one that cannot be."""
    if not 0 <= elapsed < LONGEST_CALL_NS:  # nor NaN
        raise RequestError(f"the backend's clock says that a call took {shown(elapsed)} ns")
    return int(elapsed)


def overhead_ns(session: Session, calls: int = 2000) -> float:
    """Return what timing a call that does nothing costs, in nanoseconds.

    A session with a clock of its own says itself what a call costs: nothing is to be subtracted from it.
    """
    if session.clock is not time.perf_counter_ns:
        return 0.0
    return median(timed_calls(_Nothing(), (None,), calls))  # type: ignore[arg-type]


class _Nothing:
    """A session whose calls do nothing."""

    clock = staticmethod(time.perf_counter_ns)

    def run(self, loaded: Any) -> None:
        return None

    def wait(self) -> None:
        return None


def warm_up(session: Session, batches: Sequence[Any]) -> tuple[int, float]:
    """Call until the medians of two windows in a row agree or a cap is met; gives (calls, median ns of the last).

    Over several batches a window is whole turns, and its mean stands for the median: their times may have two peaks.
    """
    middle_of = median if len(batches) == 1 else fmean
    first = timed_calls(session, batches, 1)[0]
    spent, calls, previous = float(first), 1, 0.0
    size, middle = whole_turns(3, len(batches)), float(first)
    for window in range(MOST_WINDOWS):
        samples = timed_calls(session, batches, size)
        spent, calls, middle = spent + sum(samples), calls + size, middle_of(samples)
        if window and abs(middle - previous) <= AGREEMENT * previous:
            break
        if spent > WARMUP_S * 1e9:
            break
        previous = middle
        size = whole_turns(max(3, min(200, round(WINDOW_S * 1e9 / max(middle, 1.0)))), len(batches))
    return calls, middle


def whole_turns(calls: int, batches: int) -> int:
    """Return the least number of calls from `calls` on that goes over all batches equally often."""
    return -(-calls // batches) * batches


def throughput(session: Session, batches: Sequence[Any], calls: int, limit_ns: float = float("inf")) -> tuple[int, int]:
    """Run calls back to back, waiting only at the end; gives how many there were, and nanoseconds for all.

    Ends early, but not within a turn over the batches, once `limit_ns` is used up.
    """
    clock, run = session.clock, session.run
    start, done = clock(), 0
    while done < calls:
        out = run(batches[done % len(batches)])
        done += 1
        if done < calls and not done % len(batches) and clock() - start > limit_ns:
            break
    session.wait()
    elapsed = clock() - start
    del out
    return done, _sane(elapsed)


class Ahead(NamedTuple):
    """The runtime that was imported before this process came into being: what it holds, and the seconds that it took."""

    runtime_bytes: int = 0
    import_s: float = 0.0


class _Server:
    """Answers commands about one prepared session."""

    def __init__(self, job: dict[str, Any], ahead: Ahead):
        import numpy as np

        from efflab.artefacts.artefact import Artefact
        from efflab.foundation import registry
        from efflab.foundation.errors import Unavailable

        with np.load(job["inputs"], allow_pickle=False) as file:
            arrays = [file[f"arr_{index}"] for index in range(len(file.files))]
        count = len(arrays) // job.get("batches", 1)  # inputs of one call
        batches = [tuple(arrays[start : start + count]) for start in range(0, len(arrays), count)]
        resident = memory.resident_bytes()  # efflab and the batch are in, the runtime only where it was imported ahead
        empty = None if resident is None else resident - ahead.runtime_bytes
        memory.reset_peak()
        backend = registry.load("backends", job["backend"])(**job["settings"])
        reason = type(backend).available()
        if reason:
            raise Unavailable(reason)
        start = time.perf_counter()
        self.session: Session = backend.prepare(Artefact.open(Path(job["artefact"])), batches[0], job["threads"])
        self.prepare_s = ahead.import_s + time.perf_counter() - start
        self.batches = [self.session.load(inputs) for inputs in batches]
        self.device, self.batch_size, self.empty = backend.device, len(batches[0][0]), empty
        self.joules, self.calls, self.call_ns = 0.0, 0, float("inf")
        gc.collect()
        gc.freeze()  # what the runtime keeps need not be looked through again before every block

    def prepared(self) -> dict[str, Any]:
        return {"prepare_s": self.prepare_s, "device": self.device, "batch_size": self.batch_size}

    def warm_up(self) -> dict[str, Any]:
        calls, self.call_ns = warm_up(self.session, self.batches)
        return {"calls": calls, "median_ns": self.call_ns, "overhead_ns": overhead_ns(self.session)}

    def block(self, calls: int) -> dict[str, Any]:
        """One call to fill the caches that other sessions emptied, then timed ones."""
        gc.collect()
        self.session.run(self.batches[0])
        self.session.wait()
        before = energy.rapl_counters()
        samples = timed_calls(self.session, self.batches, calls, SLOWEST * calls * self.call_ns)
        if before:
            self.joules += energy.rapl_joules(before, energy.rapl_counters())
            self.calls += calls
        return {"samples_ns": samples}

    def throughput(self, calls: int) -> dict[str, Any]:
        calls, elapsed = throughput(self.session, self.batches, calls, SLOWEST * calls * self.call_ns)
        return {"calls": calls, "elapsed_ns": elapsed}

    def finish(self) -> dict[str, Any]:
        joules = self.joules / self.calls if self.calls else None
        return {"peak_memory_bytes": memory.above(self.empty), "rapl_j": joules}


NOTHING = Ahead()


def main(ahead: Ahead = NOTHING) -> None:
    """Serve one session: the first request is the job, every further one a command of its server."""
    server: _Server | None = None

    def answer(request: dict[str, Any], report: Report) -> dict[str, Any]:
        nonlocal server
        if server is None:
            server = _Server(request, ahead)
            return server.prepared()
        action: Callable[..., dict[str, Any]] = getattr(server, request.pop("do"))
        return action(**request)

    serve(answer)


if __name__ == "__main__":
    main()
