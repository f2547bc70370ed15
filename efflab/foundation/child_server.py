"""The side of a child process: answers JSON lines on standard input. See `child` for the protocol."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from efflab.foundation.progress import Report

QUIET_S = 0.3  # at most one line of progress in this time
LONGEST = 400  # characters of a reason that is no words of ours


def serve(answer: Callable[[dict[str, Any], Report], dict[str, Any]], *, goes_on: bool = False) -> None:
    """Answer requests until standard input ends or, unless `goes_on`, until `answer` raises; never returns."""
    _die_with_parent()
    requests, replies = _claim_streams()
    last = 0.0

    def send(**reply: Any) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last > QUIET_S:
            last = time.monotonic()
            send(progress=[done, total, note])

    for line in requests:
        last = 0.0
        try:
            send(answer=answer(json.loads(line), report))
        except Exception as error:
            send(failed=_failure(error))
            if not goes_on:
                break
    sys.stderr.flush()
    os._exit(0)  # some runtimes crash or hang when they are taken down


def _failure(error: Exception) -> dict[str, Any]:
    """Return how a request failed: its status, the reason, and whether what was asked for is at fault."""
    from efflab.foundation.errors import RequestError, Unavailable, disk_full
    from efflab.foundation.wording import one_line

    if isinstance(error, Unavailable):
        return {"status": "unavailable", "reason": str(error)}
    if isinstance(error, RequestError):
        return {"status": "failed", "reason": str(error), "refused": True}
    if isinstance(error, MemoryError):
        return {"status": "failed", "reason": "out of memory"}
    if disk_full(error):
        return {"status": "disk full", "reason": str(error)}
    import traceback

    traceback.print_exc()
    return {"status": "failed", "reason": one_line(error)[:LONGEST]}


def _claim_streams() -> tuple[IO[str], IO[str]]:
    """Take standard input and output for the protocol; what libraries print goes to standard error."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _die_with_parent() -> None:
    """Ask Linux to end this process when the one that asks is killed: no orphan writes into a store, no hung one stays."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG, prctl(2)
