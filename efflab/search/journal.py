"""The trials of a search on disk: one line for each batch, appended whole, so that an interruption loses no finished one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import write_atomically
from efflab.foundation.outside import altered, content_of, parsed_json, why, with_digest
from efflab.records.trial import Trial

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = 1


def read(path: Path, search: str, fits: Callable[[Trial], bool]) -> tuple[list[Trial], str]:
    """Return the trials in a journal and a note on what was lost; a broken line ends it, and what stood after it is redone.

    search: the id in its first line. `fits` says whether a whole trial can be one of this search. A line whose digest is not
    its own was altered, and counts as broken. Raises RequestError for a file of a newer version or another search.
    """
    try:
        lines = content_of(path).splitlines()
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        raise RequestError(Problem(str(path), f"{why(error)}; move it away to search afresh")) from error
    trials: list[Trial] = []
    head = _entry(lines[0]) if lines else None
    if head is not None and type(head.get("schema")) is not int:
        head = None
    if head is not None and head["schema"] > SCHEMA:
        raise RequestError(Problem(str(path), "written by a newer efflab; move it away to search afresh"))
    if head is not None and head.get("search") != search:
        raise RequestError(Problem(str(path), "belongs to another search; move it away"))
    broken = 1 if head is None else None
    for number, line in enumerate(lines[1:] if head else [], 2):
        batch: Any = (_entry(line) or {}).get("trials")
        whole = isinstance(batch, list) and all(_whole(one, len(trials) + at) for at, one in enumerate(batch))
        if not whole or not all(fits(one) for one in batch):
            broken = number
            break
        trials += batch
    if broken is None:
        return trials, ""
    lost = (
        f"{path}:{broken} is cut off or damaged; what stood from there on is done again, from the models in the store"
    )
    return trials, lost


def mend(path: Path, search: str, trials: list[Trial]) -> None:
    """Write the journal anew with what was read of it, so that batches can be appended."""
    write_atomically(path, _head(search) + _line(trials))


def append(path: Path, search: str, batch: list[Trial]) -> None:
    """Add a batch of trials; it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "" if path.exists() else _head(search)
    with path.open("ab") as file:
        file.write((head + _line(batch)).encode())
        file.flush()
        os.fsync(file.fileno())


def _head(search: str) -> str:
    return json.dumps({"schema": SCHEMA, "search": search}) + "\n"


def _line(batch: list[Trial]) -> str:
    return json.dumps(with_digest({"trials": batch})) + "\n"


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = parsed_json(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and not altered(entry) else None


@cache
def _schema() -> TypeAdapter[Trial]:
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(strict=True, allow_inf_nan=False))(Trial))


def _whole(trial: Any, number: int) -> bool:
    from pydantic import ValidationError

    try:
        return _schema().validate_python(trial)["number"] == number
    except ValidationError:
        return False
