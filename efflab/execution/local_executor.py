"""Runs stages in spawned processes of this machine, with limits on their time and memory."""

from __future__ import annotations

import selectors
import time
from dataclasses import dataclass
from typing import Any

from efflab.contracts.executor import Done, Job, Progress, Resources
from efflab.foundation.child import Child

SERVER = "efflab.execution.stage_server"
ANY = Resources()
ENDINGS = {"ok", "paused", "failed", "unavailable", "disk full"}


@dataclass
class _Busy:
    job: Job
    child: Child
    deadline: float
    alone: bool
    fresh: bool  # its process has done nothing before


class LocalExecutor:
    """Keeps up to `workers` processes; a stage that crashes, overruns or outgrows takes only its process along.

    store: the address of the store. A job that runs alone has no limit of memory, and its limit of time is on its silence:
    `stage_s` and what its budget lets one session take. One whose process dies is done again, once, if that process had done
    others before: what those left behind must not be laid at its door. `threads`: what libraries start with.
    """

    def __init__(self, store: str, workers: int, threads: int, stage_s: float, memory_gb: float | None = None):
        self.store, self.workers, self.threads = store, workers, threads
        self.stage_s, self.memory_gb = stage_s, memory_gb
        self.idle: list[Child] = []
        self.busy: dict[str, _Busy] = {}

    def free(self, wanted: Resources = ANY) -> int:
        """Return how many more jobs that want this it takes now."""
        if wanted.alone or any(busy.alone for busy in self.busy.values()):
            return 0 if self.busy else 1
        return self.workers - len(self.busy)

    def submit(self, job: Job) -> None:
        """Send a job to an idle process, starting one if there is none."""
        while self.idle:
            child = self.idle.pop()
            if not child.ended():
                return self._start(job, child, fresh=False)
            child.end()
        return self._start(job, Child(SERVER, self.threads), fresh=True)

    def _start(self, job: Job, child: Child, fresh: bool) -> None:
        child.send({"job": job.data(), "store": self.store})
        deadline = time.monotonic() + self._limit_s(job)
        self.busy[job.stage_id] = _Busy(job, child, deadline, job.resources.alone, fresh)

    def _limit_s(self, job: Job) -> float:
        if not job.resources.alone:
            return self.stage_s
        from efflab.profiling.pace import Budget, longest_silence_s

        return self.stage_s + longest_silence_s(Budget(**job.spec["budget"]))

    def wait(self) -> list[Done | Progress]:
        """Return what the processes say; wait for them at most half a second."""
        events: list[Done | Progress] = []
        with selectors.DefaultSelector() as selector:
            for stage_id, busy in self.busy.items():
                selector.register(busy.child, selectors.EVENT_READ, stage_id)
            selector.select(timeout=0.5)
        for stage_id in list(self.busy):
            events += self._read(stage_id)
            if stage_id in self.busy:
                events += self._check_limits(stage_id)
        return events

    def _read(self, stage_id: str) -> list[Done | Progress]:
        busy = self.busy[stage_id]
        replies = busy.child.replies()
        if replies is None:
            return self._died(stage_id)
        events: list[Done | Progress] = []
        for reply in replies:
            if "progress" in reply:
                if busy.alone:
                    busy.deadline = time.monotonic() + self._limit_s(busy.job)
                events.append(Progress(stage_id, *reply["progress"]))
                continue
            del self.busy[stage_id]
            if busy.child.spoilt:
                busy.child.end()
            else:
                self.idle.append(busy.child)
            events.append(_done(stage_id, reply["answer"] if "answer" in reply else reply["failed"]))
        return events

    def _died(self, stage_id: str) -> list[Done | Progress]:
        busy = self.busy[stage_id]
        if busy.fresh:
            return [self._lost(stage_id, busy.child.death("at work on it"))]
        busy.child.end()
        self._start(busy.job, Child(SERVER, self.threads), fresh=True)
        return []

    def _check_limits(self, stage_id: str) -> list[Done | Progress]:
        busy, most = self.busy[stage_id], self.memory_gb
        if time.monotonic() > busy.deadline:
            limit = "limits.stage_s and the budget of its timing" if busy.alone else "limits.stage_s"
            how = "said nothing for" if busy.alone else "stopped after"
            return [self._lost(stage_id, f"{how} {self._limit_s(busy.job):g} s ({limit})")]
        if most and not busy.alone and busy.child.memory_gb(enough_gb=most) > most:
            return [self._lost(stage_id, f"out of memory: more than {most:g} GB (limits.memory_gb)")]
        return []

    def _lost(self, stage_id: str, reason: str) -> Done:
        self.busy.pop(stage_id).child.end()
        return Done(stage_id, "failed", reason)

    def close(self) -> None:
        """Stop all processes at once."""
        for child in [*self.idle, *(busy.child for busy in self.busy.values())]:
            child.end()
        self.idle, self.busy = [], {}


def _done(stage_id: str, told: dict[str, Any]) -> Done:
    """Return what a process says became of a job; what cannot be read is a failure of that job."""
    try:
        done = Done(**{**told, "stage_id": stage_id})
    except TypeError:
        done = Done(stage_id, "")
    kinds = (
        (done.status, str),
        (done.reason, str),
        (done.result, dict),
        (done.seconds, int | float),
        (done.machine, dict),
    )
    if not all(isinstance(value, kind) for value, kind in kinds) or done.status not in ENDINGS:
        return Done(stage_id, "failed", "its process gave an answer that cannot be read")
    return done
