"""Downloads with bounds: of size, of time without progress, and of time in all; what broke off is resumed, what is wrong goes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from efflab.foundation.errors import RequestError, disk_full
from efflab.foundation.files import file_digest

if TYPE_CHECKING:
    import http.client

CHUNK = 1 << 20
MOST_BYTES = 50_000_000_000  # of a file whose size nobody has stated
STALL_S = 60.0  # in which at least LEAST_BYTES must come
LEAST_BYTES = 60_000
TOTAL_S = 12 * 3600.0  # of one call; the next one goes on


@dataclass(frozen=True)
class Remote:
    """A file at an address: its sha256, its size if that is known, and what messages call it."""

    url: str
    sha256: str
    bytes: int | None = None
    noun: str = "file"


@dataclass(frozen=True)
class _Answer:
    """What a server says before the content: the place in the file at which it starts, and where it will end."""

    first: int
    end: int | None


class _StartOver(Exception):  # noqa: N818 (it says what to do)
    """What is there is no part of the file that the server has."""


def fetch_file(remote: Remote, target: Path, report: Callable[[int], None] = lambda done: None) -> None:
    """Fetch a file to `target` unless it is there and as it should be; what an earlier try left is gone on with.

    Raises RequestError if nothing comes, too much comes, or another file comes than the sha256 says.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _held(target.with_name(target.name + ".part")) as (part, file):
            if target.is_file() and file_digest(target) == remote.sha256:
                return
            resumed = part.stat().st_size > 0
            try:
                _fetch(remote, target, file, report)
                right = file_digest(part) == remote.sha256
            except _StartOver:
                right = False
            if not right and resumed:
                file.truncate(0)
                _fetch(remote, target, file, report)
                right = file_digest(part) == remote.sha256
            if not right:
                file.truncate(0)
                raise RequestError(f"{remote.url} gave a file with another sha256 than is stated; it was not kept")
            part.replace(target)
    except OSError as error:
        if disk_full(error):
            what = (
                f"the disk of {target.parent} is full; what has come is kept, and the same command goes on from there"
            )
            raise RequestError(what) from error
        what = (
            f"{target.parent} cannot be written ({error.strerror or error}); make it writable, or name another folder"
        )
        raise RequestError(what) from error


@contextlib.contextmanager
def _held(part: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Give the file for what has come so far, held against other processes; it goes if it is empty in the end."""
    while True:
        file = part.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
            break  # else another process has finished it meanwhile
        file.close()
    with file:
        try:
            yield part, file
        finally:
            file.flush()
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


def _fetch(remote: Remote, target: Path, file: IO[bytes], report: Callable[[int], None]) -> None:
    """Append what a server has to a file; raise _StartOver where that does not fit what the file holds."""
    have, answered = os.fstat(file.fileno()).st_size, False
    most = MOST_BYTES if remote.bytes is None else remote.bytes
    end: int | None = remote.bytes
    if have > most:
        raise _StartOver
    for item in _timed(remote, target, have):
        if isinstance(item, _Answer):
            if item.first not in (0, have):
                raise _StartOver
            if item.first < have:  # the server does not resume
                file.truncate(0)
                have = 0
            answered, end = True, item.end if end is None else end
            _check_room(remote, item.end, most, have, target)
            continue
        have += len(item)
        if have > most:
            file.truncate(0)
            raise RequestError(
                f"{remote.url} gives more than the {most:,} bytes that the {remote.noun} may have; it was not kept"
            )
        file.write(item)
        report(have)
    file.flush()
    if not answered and end is not None and have < end:  # the server's file ends before what is there
        raise _StartOver
    if end is not None and have < end:
        raise RequestError(f"{remote.url} broke off at {have:,} of {end:,} bytes; run the same command to go on")


def _check_room(remote: Remote, end: int | None, most: int, have: int, target: Path) -> None:
    if end is not None and end > most:
        raise RequestError(f"{remote.url} has {end:,} bytes, and the {remote.noun} may have {most:,}; nothing was kept")
    free = shutil.disk_usage(target.parent).free
    if end is not None and end - have > free:
        raise RequestError(f"{remote.url} has {end:,} bytes, and the disk of {target.parent} has {free:,} left")


def _timed(remote: Remote, target: Path, first: int) -> Iterator[_Answer | bytes]:
    """Yield the server's answer and then the content, read by a thread, since a server can stall where no timeout holds."""
    found: queue.Queue[_Answer | bytes | Exception | None] = queue.Queue(8)
    stop = threading.Event()
    threading.Thread(target=_read, args=(remote.url, first, found, stop), daemon=True).start()
    start = mark = time.monotonic()
    came = 0
    try:
        while True:
            try:
                item = found.get(timeout=max(0.0, mark + STALL_S - time.monotonic()))
            except queue.Empty:
                item = b""
            if item is None:
                return
            if isinstance(item, Exception):
                raise _in_words(item, remote, target)
            if item:
                yield item
            came += len(item) if isinstance(item, bytes) else 0
            now = time.monotonic()
            if now - start > TOTAL_S:
                raise _in_words(TimeoutError(f"it takes longer than {TOTAL_S:.0f} s"), remote, target)
            if now - mark >= STALL_S:
                if came < LEAST_BYTES:
                    raise _in_words(TimeoutError(f"{came:,} bytes came in {STALL_S:g} s"), remote, target)
                mark, came = now, 0
    finally:
        stop.set()


def _read(url: str, first: int, found: queue.Queue, stop: threading.Event) -> None:
    """Put the answer and the content of an address into a queue, then None, or the error that ended it."""

    def put(item: object) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                found.put(item, timeout=1)
                return

    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={first}-"} if first else {})
        with urllib.request.urlopen(request, timeout=2 * STALL_S) as response:
            put(_answer(response, first))
            while not stop.is_set() and (chunk := response.read1(CHUNK)):
                put(chunk)
        put(None)
    except urllib.error.HTTPError as error:
        put(None if error.code == 416 else error)  # nothing left to fetch
    except Exception as error:
        put(error)


def _answer(response: http.client.HTTPResponse, asked: int) -> _Answer:
    first = asked if response.status == 206 else 0
    told = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    first = int(told.group(1)) if told and response.status == 206 else first
    length = response.headers.get("Content-Length", "")
    return _Answer(first, first + int(length) if re.fullmatch(r"\d{1,18}", length) else None)


def _in_words(error: Exception, remote: Remote, target: Path) -> RequestError:
    import urllib.error

    if isinstance(error, urllib.error.HTTPError):
        return RequestError(f"{remote.url} answers {error.code} {error.reason}")
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return RequestError(
        f"cannot fetch {remote.url} ({reason}); what has come is kept and the same command goes on from there. "
        f"Offline, put the {remote.noun} at {target}"
    )
