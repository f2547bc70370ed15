"""Makes text that others wrote harmless where people read it: characters that steer a terminal are written out."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

LONGEST_CELL = 500  # characters of one cell of a table; data files hold all


def visible(text: str, keep: str = "") -> str:
    """Return a text on one line, with characters that move, hide or reorder others written out, such as `\\x1b`.

    keep: such characters that may stay, for texts of several lines.
    """
    if text.isprintable():
        return text
    return "".join(one if _plain(one) or one in keep else _written_out(one) for one in text)


def cell(value: Any) -> str:
    """Return a value as the text of one cell: on one line, visible, and cut where it is longer than people read."""
    return visible(cut(value if isinstance(value, str) else str(value), LONGEST_CELL))


def cut(text: str, most: int) -> str:
    """Return a text, cut where it is longer than this many characters, and then with their number."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


@contextmanager
def harmless_output() -> Iterator[None]:
    """Write out, for as long as this lasts, whatever would steer the terminal in what is printed to stdout or stderr."""
    before = sys.stdout, sys.stderr
    guards = [None if stream is None else Guard(stream) for stream in before]
    sys.stdout, sys.stderr = (cast("Any", guard) for guard in guards)
    try:
        yield
    finally:
        if sys.stdout is guards[0]:
            sys.stdout = before[0]
        if sys.stderr is guards[1]:
            sys.stderr = before[1]


class Guard:
    """A stream of text that makes what is written to it visible, lines and tabs aside."""

    def __init__(self, stream: Any):
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Write a text, made visible."""
        self.unguarded.write(visible(text, keep="\n\t"))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def unguarded(stream: Any) -> Any:
    """Return the stream behind a guard, for a library that steers the terminal itself and is given visible text only."""
    return stream.unguarded if isinstance(stream, Guard) else stream


def _plain(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # wide and narrow spaces are no danger


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()
