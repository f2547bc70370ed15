"""The processes that belong to a child process: those that it started, and those that these started.

A process is known by its session, which is the child's, or by its TMPDIR, which lies in the child's folder: either is
passed on to whatever a process starts, and stays when the one that started it has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MOST_ROUNDS = 20  # of ending what is found: some processes start others faster than they can be ended


def members(leader: int, folder: str, strangers: set[int] | None = None) -> list[psutil.Process]:
    """Return the processes of the session of `leader`, and those whose TMPDIR is `folder` or lies in it, this one left out.

    strangers: ids of processes that were looked at before and do not belong to it; they are skipped, and the set is brought
    up to date.
    """
    import psutil

    known = strangers if strangers is not None else set()
    known &= set(psutil.pids())
    found = []
    for one in psutil.pids():
        if one in known or one == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(one)
            if os.getsid(one) == leader or _within(process.environ().get("TMPDIR", ""), folder):
                found.append(process)
                continue
        known.add(one)
    return found


def end_family(leader: int, folder: str) -> None:
    """Kill all processes of a family; one that is killed may have started others, so look again until none is new."""
    killed: set[int] = set()
    with contextlib.suppress(OSError):  # at once, before anything is looked up
        if leader != os.getpid() and os.getsid(0) != leader:
            os.killpg(leader, signal.SIGKILL)
    for _ in range(MOST_ROUNDS):
        new = [one.pid for one in members(leader, folder) if one.pid not in killed]
        for one in new:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)
        killed.update(new)
        if not new:
            return


def memory_gb(leader: int, folder: str, strangers: set[int], enough_gb: float) -> float:
    """Return the memory that a family holds; what several of its processes share counts once.

    Finding out what is shared takes long, so below `enough_gb` the plain sum is returned, which is never less.
    """
    import psutil

    family, total, shared_once = members(leader, folder, strangers), 0.0, 0.0
    for one in family:
        with contextlib.suppress(psutil.Error):
            total += one.memory_info().rss / 1e9
    if total <= enough_gb or len(family) == 1:
        return total
    for one in family:
        with contextlib.suppress(psutil.Error):
            whole = one.memory_full_info()
            shared_once += getattr(whole, "pss", whole.rss) / 1e9  # only Linux tells
    return shared_once


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)
