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


# what is imported before `main` can catch anything takes a while
if os.path.basename((getattr(sys, "argv", None) or [""])[0]) in PROGRAM:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)
