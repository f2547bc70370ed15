"""The command line: one file a verb."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
PROGRAM = ("efflab", "-m")  # how the first argument begins while `efflab` or `python -m efflab.cli.main` starts


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End the program on Ctrl-C without a word: nothing has been done yet that could be told."""
    os._exit(INTERRUPTED)


def _starts() -> bool:
    """Say whether this is the program itself, and not a library that was imported."""
    first = (getattr(sys, "argv", None) or [""])[0]
    return os.path.basename(first) in PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler


if _starts():  # what is imported before `main` can catch anything takes a while
    signal.signal(signal.SIGINT, end_at_once)
