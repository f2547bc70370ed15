"""Reads files that others wrote: regular files of a stated size, UTF-8 text, JSON in which every number can be worked with.

What is wrong is an OSError or a ValueError whose text is a plain sentence; `read_json` places it for the user.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from efflab.foundation.errors import Problem, RequestError

MOST_BYTES = 256_000_000  # of one file of text or JSON; larger ones take several times as much memory
MOST_DEPTH = 60  # lists and mappings inside each other
MOST_DIGITS = 40  # more than anything that is counted, and far from where floats end
DIGEST = "sha256"  # the key under which written content carries its digest
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def opened(path: Path) -> io.BufferedReader:
    """Open a regular file to be read; raise OSError for anything else, without waiting for what a pipe may send."""
    if "\0" in str(path):
        raise FileNotFoundError(errno.ENOENT, "no file can have a name with the character U+0000", str(path))
    _check_kind(path, os.stat(path).st_mode)  # before it is opened: opening a device can do something
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_kind(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return io.BufferedReader(_Named(descriptor, path))


class _Named(io.FileIO):
    """A file whose errors name it, as those of opening it do."""

    def __init__(self, descriptor: int, path: Path):
        super().__init__(descriptor)
        self.path = path

    def readinto(self, buffer: Any) -> int | None:
        """Read into a buffer."""
        with self._named():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """Read to the end."""
        with self._named():
            return super().readall()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = str(self.path)
            raise


def content_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a regular file; raise OSError for anything else, and for more than `most` bytes."""
    with opened(path) as file:
        large = os.fstat(file.fileno()).st_size > most
        content = b"" if large else file.read(most + 1)  # some files of the system say that they are empty
    if large or len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return content


def text_of(path: Path, most: int = MOST_BYTES) -> str:
    """Return the text of a regular file; raise OSError as `content_of` does, UnicodeDecodeError where it is not UTF-8."""
    return content_of(path, most).decode("utf-8")


def why(error: Exception) -> str:
    """Return in words why a file could not be read."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.start})"
    return str(error)


def parsed_json(content: str | bytes) -> Any:
    """Return what JSON says; raise ValueError for what is none, or names a key twice, or holds what cannot be worked with.

    That is: a number that is not finite or has more than 40 digits, half a surrogate pair, and more than 60 levels.
    """
    try:
        found, suspect = loaded(content if isinstance(content, str) else content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(why(error)) from error
    if suspect and (wrong := odd_value(found)):
        raise ValueError(wrong)
    return found


def loaded(text: str) -> tuple[Any, bool]:
    """Return what JSON says, and whether `odd_value` may find something in it, which takes a long look at every value."""
    odd = ["half a pair"] if "\\ud" in text or "\\uD" in text else []

    def real(word: str) -> float:
        value = float(word)
        if not math.isfinite(value):
            odd.append(word)
        return value

    def whole(word: str) -> int:
        if len(word) > MOST_DIGITS:
            odd.append(word)
        return int(word[: MOST_DIGITS + 1])

    try:
        found = json.loads(text, object_pairs_hook=_mapping, parse_float=real, parse_int=whole, parse_constant=real)
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MOST_DEPTH} levels") from error
    _check_depth(found)
    return found, bool(odd)


def _check_depth(found: Any) -> None:
    level, depth = [found], 0
    while level := [one for one in level if type(one) in (dict, list)]:
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH} levels")
        level = [inner for one in level for inner in (one.values() if type(one) is dict else one)]


def read_json(path: Path, place: str = "") -> dict[str, Any] | None:
    """Return a JSON file's mapping, None if there is no such file; raise RequestError, placed at `place`, for another file."""
    try:
        content = parsed_json(content_of(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RequestError(Problem(place, f"{path} cannot be read as JSON ({why(error)})")) from error
    if not isinstance(content, dict):
        raise RequestError(Problem(place, f"{path} holds no mapping"))
    return content


def spelled(key: Sequence[str | int]) -> str:
    """Return where something stands in nested data: `records[3].latency.rounds_ms[0][2]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def digest_of(content: Any) -> str:
    """Return the sha256 of plain data, however it is laid out in a file."""
    return hashlib.sha256(json.dumps(content, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


def with_digest(content: dict[str, Any]) -> dict[str, Any]:
    """Return content as it is written: with its own digest, by which `altered` knows it."""
    return {**content, DIGEST: digest_of(content)}


def altered(content: dict[str, Any]) -> bool:
    """Take the digest out of a mapping that was read, and say whether it is another one's; False where it has none."""
    written = content.pop(DIGEST, None)
    return written is not None and written != digest_of(content)


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in _KINDS if test(mode)), "something else")
        raise OSError(errno.EINVAL, f"no regular file, but {kind}; give a file that holds the data", str(path))


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one mapping")
    return found


def odd_value(value: Any, key: tuple[str | int, ...] = ()) -> str:
    """Return, with its place, the first value of plain data that cannot be worked with; "" if there is none."""
    if isinstance(value, str):
        return _half(value, key)
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        return f"{spelled(key)} is too large a number"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{spelled(key)} is no finite number"
    names = [_half(name, key) for name in value] if isinstance(value, dict) else []
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next(filter(None, [*names, *(odd_value(inner, (*key, part)) for part, inner in inside)]), "")


def _half(text: str, key: tuple[str | int, ...]) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"{spelled(key)} holds half a surrogate pair, which is no character"
    return ""
