"""Files: their digest, reading JSON, and writing them so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from efflab.foundation.errors import Problem, RequestError


def file_digest(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, place: str = "") -> dict[str, Any] | None:
    """Return a JSON file's mapping, None if there is no such file; raise RequestError, placed at `place`, for another file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(Problem(place, f"{path} cannot be read as JSON ({error})")) from error
    if not isinstance(content, dict):
        raise RequestError(Problem(place, f"{path} holds no mapping"))
    return content


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and rename it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)
