"""The side of a child process: answers JSON lines on standard input. See `child` for the protocol."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from efflab.foundation.guard import die_with_driver, start_guard
from efflab.foundation.progress import Report

QUIET_S = 0.3  # at most one line of progress in this time
LONGEST = 400  # characters of a reason that is no words of ours


def serve(answer: Callable[[dict[str, Any], Report], dict[str, Any]], *, goes_on: bool = False) -> None:
    """Answer requests until standard input ends or, unless `goes_on`, until `answer` raises; never returns."""
    start_guard()
    die_with_driver()
    requests, replies = _claim_streams()
    me, folder, one_at_a_time = os.getpid(), os.getcwd(), threading.Lock()

    def send(number: str, kind: str, content: Any) -> None:
        line = json.dumps({"of": number, kind: content}).encode() + b"\n"
        with one_at_a_time:
            while line:
                line = line[os.write(replies, line) :]

    for line in requests:
        request = json.loads(line)
        number: str = request.pop("number", "")
        kind, content = _reply(answer, request, _reporter(send, number, me))
        if os.getpid() != me:  # a copy of this process, which a plug-in left running: the question is not its own
            os._exit(1)
        _print_all()
        with contextlib.suppress(OSError):
            os.chdir(folder)  # a plug-in may have left it
        try:
            send(number, kind, content)
        except (TypeError, ValueError, RecursionError) as error:  # no JSON: what a plug-in gave went into it
            kind = "failed"
            send(number, kind, _failure(error))
        if kind == "failed" and not goes_on:
            break
    _print_all()
    os._exit(0)  # some runtimes crash or hang when they are taken down


def _reply(
    answer: Callable[[dict[str, Any], Report], dict[str, Any]], request: dict[str, Any], report: Report
) -> tuple[str, Any]:
    """Return the kind and the content of the reply to a request."""
    try:
        return "answer", answer(request, report)
    except BaseException as error:  # a plug-in may raise anything: SystemExit is no reason to end
        return "failed", _failure(error)


def _reporter(send: Callable[[str, str, Any], None], number: str, me: int) -> Report:
    last = 0.0

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last > QUIET_S and os.getpid() == me:
            last = time.monotonic()
            send(number, "progress", [done, total, str(note)])

    return report


def _failure(error: BaseException) -> dict[str, Any]:
    """Return how a request failed: its status, the reason, and whether what was asked for is at fault."""
    from efflab.foundation.errors import RequestError, Unavailable, disk_full, text_of
    from efflab.foundation.wording import one_line

    if isinstance(error, Unavailable):
        return {"status": "unavailable", "reason": text_of(error)}
    if isinstance(error, RequestError):
        return {"status": "failed", "reason": text_of(error), "refused": True}
    if isinstance(error, MemoryError):
        return {"status": "failed", "reason": "out of memory"}
    if disk_full(error):
        return {"status": "disk full", "reason": text_of(error)}
    import traceback

    with contextlib.suppress(Exception):  # there may be no room for it, or no stream
        traceback.print_exception(error)
    reason = one_line(error)[:LONGEST]
    if not isinstance(error, Exception):
        reason = f"what it runs asked its process to end ({reason})"
    return {"status": "failed", "reason": reason}


def _claim_streams() -> tuple[IO[str], int]:
    """Take standard input and output for the protocol; what libraries print goes to standard error."""
    requests, replies = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _print_all() -> None:
    """Have everything printed that waits in a buffer, so that it is not taken for what the next request printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # plug-ins close and replace them
            stream.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)
