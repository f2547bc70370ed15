"""Files: their digest, and writing them so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from efflab.foundation.outside import opened


def file_digest(path: Path) -> str:
    """Return a regular file's sha256; raise OSError for anything else."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and rename it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)
