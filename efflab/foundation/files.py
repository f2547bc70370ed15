"""Files: their digest, and writing them so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from efflab.foundation.errors import RequestError
from efflab.foundation.outside import opened


def file_digest(path: Path) -> str:
    """Return a regular file's sha256; raise OSError for anything else."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replaced(path: Path, part: Path | None = None) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it in the end; after an error nothing of it is left.

    Half of a file helps nobody, and where the disk is full it would keep it full. part: that path, where only one process
    writes the file at a time; what a killed one left there is then written over.
    """
    part = part or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and rename it."""
    with replaced(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def real(path: Path) -> Path:
    """Return a path without links and dots; links that lead in a circle stay, so that opening the file says so."""
    return Path(os.path.realpath(path))


def is_file(path: Path) -> bool:
    """Say whether a name that somebody wrote is that of a file; one that no file can have, as a very long one, is not."""
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Say whether a name that somebody wrote is that of a folder."""
    return os.path.isdir(path)


def expanded(path: str, named_by: str) -> Path:
    """Return a path with `~` as the user's folder; raise RequestError where nobody knows that folder.

    named_by: the variable by which the user can name another one.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        what = f"{path} lies in a home folder, and no such folder is known; set HOME, or name a folder by {named_by}"
        raise RequestError(what) from error
