"""A process that answers JSON lines: starts it, asks, and turns every way to die into a reason. See `child_server`.

A request is one line. Its replies are {"progress": [done, total, note]}, any number of them, and then {"answer": {...}} or
{"failed": {"status", "reason", "refused"}}.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Literal

from efflab.foundation.errors import Status

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


Kind = Literal["raised", "crash", "hang"]


class Failure(str):
    """The reason why a process has no answer, as a sentence.

    `status` tells a missing runtime from a failed one; `kind` an exception that it told of from a death and from silence.
    """

    status: Status
    kind: Kind

    def __new__(cls, reason: str, status: Status = "failed", kind: Kind = "raised") -> Failure:
        """Make a reason with its status and kind."""
        failure = super().__new__(cls, reason)
        failure.status, failure.kind = status, kind
        return failure


class Child:
    """A running worker module; `failure` is set once it failed, and every later question is then answered by {}."""

    def __init__(self, module: str, threads: int):
        """Start `python -m module` with the thread pools of the usual libraries pinned to `threads`."""
        self.failure: Failure | None = None
        self._unread = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        # what a killed process leaves behind goes with this folder
        self._scratch = tempfile.TemporaryDirectory(prefix="efflab-child-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={
                **os.environ,
                **dict.fromkeys(THREAD_VARIABLES, str(threads)),
                "TMPDIR": self._scratch.name,
            },
            start_new_session=True,  # a group of its own, so that what it started ends with it
        )

    def end(self) -> None:
        """End the process, whatever it does, and wait for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        self._errors.close()
        self._scratch.cleanup()

    def send(self, request: dict[str, Any]) -> None:
        """Send a request; that the process has died is seen when its reply is read."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def replies(self, wait_s: float = 0.0) -> list[dict[str, Any]] | None:
        """Return the replies that are there within `wait_s`, none if there are none; None once the process has ended."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, wait_s))
        if not ready:
            return []
        chunk = os.read(self._process.stdout.fileno(), 1 << 16)
        if not chunk:
            return None
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def fileno(self) -> int:
        """Return what a selector waits on for replies."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def memory_gb(self) -> float:
        """Return the memory that the process holds."""
        import psutil

        try:
            return float(psutil.Process(self._process.pid).memory_info().rss) / 1e9
        except psutil.Error:
            return 0.0

    def ask(
        self, request: dict[str, Any], limit_s: float, doing: str, meanwhile: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """Send a request and return the answer; an empty one after a failure, which is noted.

        `doing` completes a reason such as "killed by SIGSEGV while ..."; `meanwhile` is called before reading.
        """
        if self.failure:
            return {}
        self.send(request)
        if meanwhile:
            meanwhile()
        deadline = time.monotonic() + limit_s
        while True:
            replies = self.replies(deadline - time.monotonic())
            if replies is None:
                self.failure = Failure(self.death(doing), kind="crash")
                return {}
            for reply in replies:
                if "answer" in reply:
                    answer: dict[str, Any] = reply["answer"]
                    return answer
                if "failed" in reply:
                    failed = reply["failed"]
                    status: Status = "unavailable" if failed["status"] == "unavailable" else "failed"
                    self.failure = Failure(" ".join(failed["reason"].split()), status)
                    return {}
            if time.monotonic() > deadline:
                self._process.kill()
                self.failure = Failure(f"gave no answer within {limit_s:g} s while {doing}; ended", kind="hang")
                return {}

    def death(self, doing: str) -> str:
        """Say how the process ended, with the last lines that it printed as errors."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return f"closed its connection while {doing}"
        self._errors.seek(0)
        printed = self._errors.read()[-4000:].decode(errors="replace").split("\n")
        last = " | ".join([line.strip() for line in printed if line.strip()][-3:])[-400:]
        if code < 0:
            name = signal.Signals(-code).name
            how = f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        else:
            how = f"ended with exit code {code}"
        return f"{how} while {doing}" + (f": {last}" if last else "")
