"""The side of a child process: answers JSON lines on standard input, each by one line. See `child`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Any


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests until standard input ends or `answer` raises, which is told as {"error", "status"}; never returns."""
    _die_with_parent()
    requests, replies = _claim_streams()
    for line in requests:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            reply = _failure(error)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if "error" in reply:
            break
    sys.stderr.flush()
    os._exit(0)  # some runtimes crash or hang when they are taken down


def _failure(error: Exception) -> dict[str, str]:
    from efflab.foundation.errors import RequestError, Unavailable

    if isinstance(error, Unavailable):
        return {"error": str(error), "status": "unavailable"}
    text = " ".join(str(error).split())[:400]
    plain = isinstance(error, RequestError)
    return {"error": text if plain else f"{type(error).__name__}: {text}", "status": "failed"}


def _claim_streams() -> tuple[IO[str], IO[str]]:
    """Take standard input and output for the protocol; what runtimes print goes to standard error."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _die_with_parent() -> None:
    """Ask Linux to end this process when the one that asks is killed, so that a hung worker does not stay behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
