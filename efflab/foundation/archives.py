"""Archives from outside: bounds on what they unpack to, and unpacking that stays within them and within its folder."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from efflab.foundation.errors import RequestError

MOST_RATIO = 100  # times its own size that an archive may unpack to; data and weights shrink much less than that
ALWAYS_ALLOWED = 50_000_000  # bytes, whatever the ratio
MOST_FILES = 1_000_000
PACKED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class TooLarge(Exception):  # noqa: N818 (it says what the archive is)
    """An archive unpacks to more than it may."""


def most_unpacked(path: Path) -> int:
    """Return how many bytes an archive may unpack to."""
    return max(ALWAYS_ALLOWED, MOST_RATIO * path.stat().st_size)


def bound_zip(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise RequestError for a zip archive that unpacks to too much, or has a file twice."""
    total, most = sum(entry.file_size for entry in entries), most_unpacked(path)
    if total > most or len(entries) > MOST_FILES:
        raise RequestError(_too_large(path))
    if len({entry.filename for entry in entries}) < len(entries):
        raise RequestError(f"{path} holds a file of the same name twice, so it is unclear which of them counts")


def _too_large(path: Path) -> str:
    what = f"{path} unpacks to more than {MOST_RATIO} times its size, or to more than {MOST_FILES:,} files"
    return f"{what}; such an archive fills the disk, and none of its data is used"


def unpack_tar(path: Path, folder: Path) -> None:
    """Unpack a tar archive into `folder`.

    Raises RequestError for one that unpacks to too much, or that names files outside the folder, devices, or links that
    lead out of it. OSError and tarfile's own errors pass through.
    """
    try:
        with _opened(path) as content, tarfile.open(fileobj=content, mode="r:") as tar:
            _unpack(tar, folder, most_unpacked(path))
    except tarfile.FilterError as error:
        raise RequestError(f"{path} holds what may not be unpacked: {error}") from error
    except TooLarge as error:
        raise RequestError(_too_large(path)) from error
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise tarfile.ReadError(f"the archive is cut off or damaged ({error})") from error


def _unpack(tar: tarfile.TarFile, folder: Path, most: int) -> None:
    total = 0
    for number, member in enumerate(tar):
        total += member.size
        if total > most or number >= MOST_FILES:
            raise TooLarge
        tar.extract(member, folder, filter="data")


def _opened(path: Path) -> _Bounded:
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((one for mark, one in PACKED.items() if start.startswith(mark)), open)
    return _Bounded(opener(path, "rb"), 2 * most_unpacked(path))


class _Bounded(io.RawIOBase):
    """Reads a stream, and refuses to read more than so many bytes in all: headers of an archive can be huge, too."""

    def __init__(self, inner: IO[bytes], left: int):
        self.inner, self.left = inner, left

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes."""
        if size < 0 or size > self.left:
            raise TooLarge
        found = self.inner.read(size)
        self.left -= len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; what lies between is unpacked, and counts."""
        self.left -= max(0, offset - self.inner.tell()) if whence == 0 else 0
        if self.left < 0:
            raise TooLarge
        return self.inner.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self.inner.tell()

    def close(self) -> None:
        """Close the stream beneath, too."""
        self.inner.close()
        super().close()
