"""What a program owes its surroundings: standard streams that may be closed, a reader that may be gone, signals that end it."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from efflab import cli


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end: it stops as on Ctrl-C, and keeps what is finished."""

    def __init__(self, number: int):
        super().__init__(number)
        self.cause, self.code = f"ended by {signal.Signals(number).name}", 128 + number


def begin() -> bool:
    """Open the standard streams that are closed; where this is the whole program, take its signals, and return True."""
    _open_streams()
    if signal.getsignal(signal.SIGINT) is not cli.end_at_once:
        return False
    for stream in (sys.stdout, sys.stderr):  # a terminal may lack letters that a name has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has it ignored
            signal.signal(number, _stop)
    return True


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one does not wait
    raise Stopped(number)


def _open_streams() -> None:
    """Open what is closed of 0, 1 and 2: a file that is opened later would take that number, and get what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False, encoding="utf-8")


@contextmanager
def flushed() -> Iterator[None]:
    """Print all that waits at the end; if nobody takes it, throw it away, so that Python does not try again."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError:
        drop_output()
        raise


def tell(text: str) -> None:
    """Print a line to stderr; where nobody takes it, the exit code alone tells."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def drop_output() -> None:
    """Throw away what is printed from now on: whoever read it is gone."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
