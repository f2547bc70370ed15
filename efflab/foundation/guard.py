"""A small process beside a child process: when its driver or the child is gone, it ends all that belongs to the child."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import warnings

PREFIX = "efflab-child-"  # of the folder that a child gets for its temporary files
LOOK_S = 0.5  # where the system cannot tell of the end of a process


def start_guard() -> None:
    """Start the guard of this process, the child; call it first, while standard input and output are the only files.

    The driver holds the other end of standard input, so its end, however it came, closes that. A child that hangs is
    ended too, and what it started: the guard shares no thread with it. The guard removes the child's folder if nobody else will.
    """
    child, folder = os.getpid(), os.environ.get("TMPDIR", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads: only system calls follow
        if os.fork():
            return
    with contextlib.suppress(BaseException):
        os.setpgid(0, 0)  # a child that is stopped for a while must not stop its guard
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):  # else the driver would wait for what the guard might say
            os.dup2(nothing, stream)
        driver_gone = _wait(child)
        _end(child, folder, driver_gone)
    os._exit(0)


def _wait(child: int) -> bool:
    """Wait until the driver or the child has ended; say whether the driver has."""
    poll = select.poll()
    poll.register(0, 0)  # tells of a hang-up only
    ending = None
    with contextlib.suppress(OSError, AttributeError):  # older kernels, other systems
        ending = os.pidfd_open(child)
        poll.register(ending, select.POLLIN)
    while True:
        ready = dict(poll.poll(None if ending is not None else LOOK_S * 1000))
        if 0 in ready or ending in ready or os.getppid() != child:
            return 0 in ready or 0 in dict(poll.poll(0))


def _end(child: int, folder: str, driver_gone: bool) -> None:
    from efflab.foundation.family import end_family

    end_family(child, folder)
    if driver_gone and os.path.basename(folder).startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def die_with_driver() -> None:
    """Ask Linux to end this process when the one that started it is killed, and end it if that has happened already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG, prctl(2)
