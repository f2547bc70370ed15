"""Errors that are the user's to mend: each says where, what, and the nearest right spelling."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

LONGEST_MESSAGE = 4000  # characters of a message of someone else's
Status = Literal["ok", "failed", "unavailable"]  # how what was asked for ended


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `where` is file:line and key, `what` a plain sentence."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class RequestError(Exception):
    """The request cannot be carried out as written (exit code 2); carries all problems found at once."""

    def __init__(self, problems: Iterable[Problem] | Problem | str):
        if isinstance(problems, str):
            problems = Problem("", problems)
        if isinstance(problems, Problem):
            problems = [problems]
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def at(self, where: str) -> RequestError:
        """Return the same problems, those without a place of their own at `where`."""
        return RequestError([one if one.where else Problem(where, one.what) for one in self.problems])

    def __reduce__(self) -> tuple[type[RequestError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


class Unavailable(Exception):  # noqa: N818 (a state of the machine more than an error)
    """Something optional is not installed or not supported here; the text is the reason and the way out."""


class Died(Exception):  # noqa: N818 (a state of another process more than an error)
    """Another process that does the work died; the text says how."""


def text_of(error: BaseException) -> str:
    """Return an exception's message, in characters that can be written; plug-ins raise some whose message cannot be read."""
    try:
        text = str(error)
    except Exception:
        return "(its message cannot be read)"
    return writable(text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}...")


def writable(text: str) -> str:
    """Return a text with what no file can hold, halves of characters, written out."""
    return text.encode(errors="backslashreplace").decode()


def disk_full(error: BaseException) -> bool:
    """Say whether an error means that the disk is full; libraries written in Rust wrap the system's error in one of theirs."""
    text = text_of(error)
    wrapped = f"code: {errno.ENOSPC}," in text or os.strerror(errno.ENOSPC) in text
    return wrapped or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return a hint naming the nearest right spelling of `word`, and the full list of `choices`."""
    names = sorted(choices)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) if names else '(none)'}"


class Paused(Exception):  # noqa: N818 (no error: the training was asked to stop here, and can go on)
    """A training has come as far as it was asked to; its checkpoint holds all of it.

    share: how much of its steps is done; result: what its stage says of the model as it is now.
    """

    def __init__(self, share: float, seconds: float, result: dict[str, Any] | None = None):
        super().__init__(f"paused at {share:.0%} of the training")
        self.share, self.seconds, self.result = share, seconds, result or {}
