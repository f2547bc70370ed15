"""A process that has modules imported and makes copies of itself: a copy starts within milliseconds, an import takes seconds.

The process runs a module of its own that answers two requests with `import_modules` and `make_copy`; see `child_server`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import mmap
import os
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from efflab.foundation.child import Child
from efflab.foundation.processes import Forked, Process, Streams, ended

IMPORT_S, ANSWER_S = 120.0, 20.0
TASKS = "/proc/self/task"
_HELD: list[object] = []
FLAGS = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND)  # of what a copy reads, answers on, and prints to


class ForkServer:
    """The driver's side: starts the server, and copies of it for `Child(..., start=server.start)`.

    `failure` says why there can be no copies. The copies end with the server.
    """

    def __init__(self, module: str, threads: int, modules: Sequence[str]):
        self._child, self._one_at_a_time, self._over = Child(module, threads), threading.Lock(), False
        reader, writer = os.pipe()
        try:
            request = {"do": "import", "modules": [*modules], "stream": _address(reader)}
            self._child.ask(request, IMPORT_S, "importing")
        finally:
            os.close(reader)
            os.close(writer)

    @property
    def failure(self) -> str | None:
        """Why there can be no copies, None if there can."""
        return self._child.failure

    def start(self, streams: Streams, scratch: str) -> Process:
        """Make a copy with these streams; raise ChildProcessError if the server has failed."""
        told = self._ask({"do": "fork", "streams": [*map(_address, streams)], "scratch": scratch})
        if "pid" not in told:
            raise ChildProcessError(f"no copy of a process could be made: {self.failure}")
        return Forked(told["pid"], self._exit_code)

    def end(self) -> None:
        """End the server and all its copies."""
        self._over = True
        self._child.end()

    def _exit_code(self, pid: int, forget: bool) -> int | None:
        told = self._ask({"do": "exit_code", "pid": pid, "forget": forget})
        return int(told.get("code", -signal.SIGKILL)) if told.get("ended", True) else None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._one_at_a_time:
            if self._over:
                return {}
            return self._child.ask(request, ANSWER_S, "making copies of itself")


def _address(file: int) -> str:
    """Return the path by which another process opens a file of this one."""
    return f"/proc/{os.getpid()}/fd/{file}"


def check_stream(path: str) -> None:
    """Raise OSError where the system does not let this process open the streams of its driver."""
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def can_fork_safely() -> bool:
    """Say whether this system lets a copy be made of a process with open streams of another one."""
    return os.path.isdir(TASKS) and hasattr(os, "waitid")


def import_modules(modules: Sequence[str]) -> float:
    """Import modules, and return the seconds that it took. Raises RuntimeError if they leave a thread running.

    A copy has the calling thread only, and would wait for ever for locks that another one held. Libraries that end their
    threads at a fork and start them again after it, as OpenBLAS does, leave none.
    """
    start = time.perf_counter()
    for name in modules:
        importlib.import_module(name)
    took = time.perf_counter() - start
    trial = os.fork()
    if trial == 0:
        os._exit(0)
    os.waitpid(trial, 0)
    if len(os.listdir(TASKS)) > 1:
        raise RuntimeError(f"importing {', '.join(modules)} starts threads")
    gc.collect()
    gc.freeze()  # what is shared with the copies stays shared
    return took


def make_copy(streams: Sequence[str], scratch: str, run: Callable[[], None]) -> int:
    """Fork a copy that leads a session of its own and calls `run`; return its process id.

    streams: paths of what it gets as standard input, output and errors; scratch: the folder of its temporary files.
    """
    files = [os.open(path, flags) for path, flags in zip(streams, FLAGS, strict=True)]
    pid = os.fork()
    if pid:
        for file in files:
            os.close(file)
        return pid
    with contextlib.suppress(BaseException):
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        _close_pipes()
        os.environ["TMPDIR"], tempfile.tempdir = scratch, None
        _move_memory()
        run()
    os._exit(1)


def _move_memory() -> None:
    """Shift where this copy's memory will lie, as it differs from one fresh process to another: it moves times by per cents."""
    random = Random(os.urandom(8))
    _HELD.append(mmap.mmap(-1, mmap.PAGESIZE * random.randint(1, 4096)))  # never written to, so it costs no memory
    _HELD.append(bytearray(16 * random.randint(1, 4096)))


def exit_code(pid: int, forget: bool) -> dict[str, Any]:
    """Return whether a copy has ended, and how; its number is free for others only after `forget`."""
    code = ended(pid)
    if code is not None and forget:
        os.waitpid(pid, 0)
    return {"ended": code is not None, "code": code}


def _close_pipes() -> None:
    """Close what a copy holds of the server's own streams, else nobody would see that the server has ended."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and stat.S_ISFIFO(os.fstat(int(name)).st_mode):
                os.close(int(name))
