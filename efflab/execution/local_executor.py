"""Runs stages in other processes. `Executor` is the whole interface; `LocalExecutor` is spawned workers of this machine."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from efflab.contracts.executor import Done, Job, Progress


class LocalExecutor:
    """Keeps up to `workers` spawned processes; a stage that crashes, overruns or outgrows takes only its worker along."""

    def __init__(self, workers: int, threads: int, stage_s: float, memory_gb: float | None = None):
        self.threads, self.stage_s, self.memory_gb = threads, stage_s, memory_gb
        self.idle: list[_Worker] = []
        self.busy: dict[str, _Worker] = {}
        self.workers = workers

    def free(self) -> int:
        """Return how many more jobs it takes now."""
        return self.workers - len(self.busy)

    def submit(self, job: Job) -> None:
        """Send a job to an idle worker, starting one if there is none."""
        worker = self.idle.pop() if self.idle else _Worker(self.threads)
        worker.start(job, self.threads, self.stage_s)
        self.busy[job.stage_id] = worker

    def wait(self) -> list[Done | Progress]:
        """Return messages of the workers; wait for them at most half a second."""
        events: list[Done | Progress] = []
        with selectors.DefaultSelector() as selector:
            for stage_id, worker in self.busy.items():
                selector.register(worker.process.stdout, selectors.EVENT_READ, stage_id)  # type: ignore[arg-type]
            ready = [key.data for key, _ in selector.select(timeout=0.5)]
        for stage_id in list(self.busy):
            worker = self.busy[stage_id]
            if stage_id in ready:
                events += self._read(stage_id, worker)
            if stage_id in self.busy:
                events += self._check_limits(stage_id, worker)
        return events

    def _read(self, stage_id: str, worker: _Worker) -> list[Done | Progress]:
        messages = worker.messages()
        if messages is None:
            del self.busy[stage_id]
            return [Done(stage_id, "failed", worker.death())]
        events: list[Done | Progress] = []
        for message in messages:
            if "status" not in message:
                events.append(Progress(stage_id, message["done"], message["total"], message["note"]))
                continue
            self.idle.append(self.busy.pop(stage_id))
            events.append(
                Done(
                    stage_id,
                    message["status"],
                    message.get("reason", ""),
                    message.get("result", {}),
                    message.get("seconds", 0.0),
                    message.get("refused", False),
                )
            )
        return events

    def _check_limits(self, stage_id: str, worker: _Worker) -> list[Done | Progress]:
        reason = ""
        if time.monotonic() > worker.deadline:
            reason = f"stopped after {self.stage_s:g} s (limits.stage_s)"
        elif self.memory_gb and worker.memory_gb() > self.memory_gb:
            reason = f"out of memory: more than {self.memory_gb:g} GB (limits.memory_gb)"
        if not reason:
            return []
        worker.kill()
        del self.busy[stage_id]
        return [Done(stage_id, "failed", reason)]

    def close(self) -> None:
        """Stop all workers at once."""
        for worker in [*self.idle, *self.busy.values()]:
            worker.kill()
        self.idle, self.busy = [], {}


class _Worker:
    """One spawned process and the pipe to it."""

    def __init__(self, threads: int):
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the worker)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "efflab.execution.stage_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **dict.fromkeys(names, str(threads))},
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.buffer = b""
        self.deadline = 0.0

    def start(self, job: Job, threads: int, stage_s: float) -> None:
        self.deadline = time.monotonic() + stage_s
        assert self.process.stdin is not None
        content = {"kind": job.kind, "spec": job.spec, "needs": job.needs, "folder": job.folder, "threads": threads}
        try:
            self.process.stdin.write(json.dumps(content).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died while idle; the closed pipe is seen at the next wait

    def messages(self) -> list[dict[str, Any]] | None:
        """Return complete messages, or None when the process has ended."""
        assert self.process.stdout is not None
        chunk = self.process.stdout.read()
        if chunk == b"":
            return None
        *lines, self.buffer = (self.buffer + (chunk or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def death(self) -> str:
        """Say how the process ended."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "killed by the system (SIGKILL), most likely out of memory"
        how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self.errors.seek(0)
        said = self.errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return f"{how}: {said[-1]}" if said else how

    def memory_gb(self) -> float:
        import psutil

        try:
            return float(psutil.Process(self.process.pid).memory_info().rss) / 1e9
        except psutil.Error:
            return 0.0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
