"""Two ways to start the process behind a `Child`: a new Python, or a copy of one that has its modules imported already."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

LOOK_S = 0.002


class Streams(NamedTuple):
    """The files that a process gets as standard input, output and errors, by their numbers here."""

    requests: int
    replies: int
    errors: int


class Process(Protocol):
    """A started process; its number stays its own until `wait` has seen its end."""

    pid: int

    def exit_code(self) -> int | None:
        """Return how the process ended, negative for a signal, None while it lives."""
        ...

    def wait(self, limit_s: float) -> None:
        """Wait until the process has ended, for so long at most."""
        ...


Start = Callable[[Streams, str], Process]  # with the folder for its temporary files


class Spawned:
    """A new Python that runs a module, in a session of its own, by which what it starts is found."""

    def __init__(self, module: str, variables: dict[str, str], streams: Streams, scratch: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=streams.requests,
            stdout=streams.replies,
            stderr=streams.errors,
            env={**os.environ, **variables, "TMPDIR": scratch},
            start_new_session=True,
        )
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        """Return how the process ended, negative for a signal, None while it lives."""
        if self._process.returncode is not None or not hasattr(os, "waitid"):
            return self._process.poll()
        return ended(self.pid)

    def wait(self, limit_s: float) -> None:
        """Wait until the process has ended, for so long at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # the system may hold it in a call that never ends
            self._process.wait(limit_s)


class Forked:
    """A copy that a fork server made of itself; the server tells how it ended, and keeps its number until `wait`."""

    def __init__(self, pid: int, ask_exit_code: Callable[[int, bool], int | None]):
        self.pid, self._ask = pid, ask_exit_code
        self._code: int | None = None

    def exit_code(self) -> int | None:
        """Return how the process ended, negative for a signal, None while it lives."""
        if self._code is None:
            return self._ask(self.pid, False)
        return self._code

    def wait(self, limit_s: float) -> None:
        """Wait until the process has ended, for so long at most."""
        deadline = time.monotonic() + limit_s
        while (code := self._ask(self.pid, True)) is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._code = code


def ended(pid: int) -> int | None:
    """Return how a process that this one started has ended, None while it lives; it can be asked again."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
