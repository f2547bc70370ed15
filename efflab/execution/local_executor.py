"""Runs stages in spawned processes of this machine, with limits on their time and memory."""

from __future__ import annotations

import selectors
import time
from typing import NamedTuple

from efflab.contracts.executor import Done, Job, Progress
from efflab.foundation.child import Child

SERVER = "efflab.execution.stage_server"


class _Busy(NamedTuple):
    child: Child
    deadline: float


class LocalExecutor:
    """Keeps up to `workers` processes; a stage that crashes, overruns or outgrows takes only its process along."""

    def __init__(self, workers: int, threads: int, stage_s: float, memory_gb: float | None = None):
        self.workers, self.threads, self.stage_s, self.memory_gb = workers, threads, stage_s, memory_gb
        self.idle: list[Child] = []
        self.busy: dict[str, _Busy] = {}

    def free(self) -> int:
        """Return how many more jobs it takes now."""
        return self.workers - len(self.busy)

    def submit(self, job: Job) -> None:
        """Send a job to an idle process, starting one if there is none."""
        child = self.idle.pop() if self.idle else Child(SERVER, self.threads)
        child.send(
            {"kind": job.kind, "spec": job.spec, "needs": job.needs, "folder": job.folder, "threads": self.threads}
        )
        self.busy[job.stage_id] = _Busy(child, time.monotonic() + self.stage_s)

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
            events.append(Done(stage_id, **(reply["answer"] if "answer" in reply else reply["failed"])))
        return events

    def _check_limits(self, stage_id: str) -> list[Done | Progress]:
        child, deadline = self.busy[stage_id]
        if time.monotonic() > deadline:
            return [self._lost(stage_id, f"stopped after {self.stage_s:g} s (limits.stage_s)")]
        if self.memory_gb and child.memory_gb() > self.memory_gb:
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
