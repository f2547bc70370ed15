"""The rows of unchanged studies, kept in the store: working them out takes seconds, reading them does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from efflab.comparison.row import Row
from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest
from efflab.foundation.outside import digest_of
from efflab.records.kept import keep, recalled
from efflab.records.store import LocalStore
from efflab.records.study import load_study, samples_path

FOLDER = "comparisons"
PACKAGE = Path(__file__).parents[1]
BEHIND = ("comparison", "statistics", "frontier", "records")  # the code that makes rows of records


class Compared(NamedTuple):
    """The rows of studies, and how many draws are behind their intervals."""

    rows: list[Row]
    draws: int


def compared(files: Sequence[Path], axes: Sequence[str], store: LocalStore | None) -> Compared:
    """Return the rows of the studies in these files, as they were worked out before if nothing has changed since.

    Raises RequestError for a file that holds no study.
    """
    kept = store.root / FOLDER / f"{_key(files, axes)}.json" if store else None
    content = recalled(kept)
    if isinstance(content, str):
        try:
            return Compared(*_adapter().validate_python(json.loads(content)))
        except (ValueError, ValidationError):  # of a version whose rows were others
            pass
    from efflab.comparison.compare import assess

    assessed = assess([load_study(file) for file in files], axes)
    plain = _adapter().dump_python((assessed.rows, assessed.draws))
    if not assessed.asked_tasks:  # what a plug-in says of a metric may be another thing tomorrow
        keep(kept, json.dumps(plain, separators=(",", ":"), default=lambda flag: flag.value))
    return Compared(*_adapter().validate_python(plain))  # as it is read the next time, to the last digit


def kept_in() -> LocalStore | None:
    """Return the store in which rows are kept, None if there is one that cannot be read."""
    try:
        return LocalStore.open()
    except RequestError:
        return None


def digest_of_study(file: Path) -> str:
    """Return a digest of a study's file and its samples."""
    samples = samples_path(file)
    return digest_of([file_digest(file), file_digest(samples) if samples.exists() else ""])


def _key(files: Sequence[Path], axes: Sequence[str]) -> str:
    return digest_of([_code(), sorted(axes), [digest_of_study(file) for file in files]])


@cache
def _code() -> str:
    """Return a digest of the code that makes rows."""
    found = hashlib.sha256()
    for folder in BEHIND:
        for file in sorted((PACKAGE / folder).glob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()


@cache
def _adapter() -> TypeAdapter[tuple[list[Row], int]]:
    return TypeAdapter(tuple[list[Row], int])
