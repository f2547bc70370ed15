"""Runs stages in spawned processes of this machine, with limits on their time and memory."""

from __future__ import annotations

import math
import selectors
import time
from typing import NamedTuple

from efflab.contracts.executor import Done, Job, Progress, Resources
from efflab.foundation.child import Child

SERVER = "efflab.execution.stage_server"
ANY = Resources()


class _Busy(NamedTuple):
    child: Child
    deadline: float
    alone: bool


class LocalExecutor:
    """Keeps up to `workers` processes; a stage that crashes, overruns or outgrows takes only its process along.

    store: the address of the store. The limits are not for jobs that run alone, which have bounds of their own.
    `threads` is what libraries start with that a stage does not tell how many it has.
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
        child = self.idle.pop() if self.idle else Child(SERVER, self.threads)
        child.send({"job": job.data(), "store": self.store})
        alone = job.resources.alone
        deadline = math.inf if alone else time.monotonic() + self.stage_s
        self.busy[job.stage_id] = _Busy(child, deadline, alone)

    def wait(self) -> list[Done | Progress]:
        """Return what the processes say; wait for them at most half a second."""
        events: list[Done | Progress] = []
        with selectors.DefaultSelector() as selector:
            for stage_id, busy in self.busy.items():
                selector.register(busy.child, selectors.EVENT_READ, stage_id)
            ready = [key.data for key, _ in selector.select(timeout=0.5)]
        for stage_id in list(self.busy):
            if stage_id in ready:
                events += self._read(stage_id)
            if stage_id in self.busy:
                events += self._check_limits(stage_id)
        return events

    def _read(self, stage_id: str) -> list[Done | Progress]:
        child = self.busy[stage_id].child
        replies = child.replies()
        if replies is None:
            return [self._lost(stage_id, child.death("at work on it"))]
        events: list[Done | Progress] = []
        for reply in replies:
            if "progress" in reply:
                events.append(Progress(stage_id, *reply["progress"]))
                continue
            self.idle.append(self.busy.pop(stage_id).child)
            told = reply["answer"] if "answer" in reply else reply["failed"]
            events.append(Done(**{**told, "stage_id": stage_id}))
        return events

    def _check_limits(self, stage_id: str) -> list[Done | Progress]:
        child, deadline, alone = self.busy[stage_id]
        if time.monotonic() > deadline:
            return [self._lost(stage_id, f"stopped after {self.stage_s:g} s (limits.stage_s)")]
        if self.memory_gb and not alone and child.memory_gb() > self.memory_gb:
            return [self._lost(stage_id, f"out of memory: more than {self.memory_gb:g} GB (limits.memory_gb)")]
        return []

    def _lost(self, stage_id: str, reason: str) -> Done:
        self.busy.pop(stage_id).child.end()
        return Done(stage_id, "failed", reason)

    def close(self) -> None:
        """Stop all processes at once."""
        for child in [*self.idle, *(busy.child for busy in self.busy.values())]:
            child.end()
        self.idle, self.busy = [], {}
