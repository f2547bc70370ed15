"""The trials of a search on disk: one line for each batch, appended whole, so that an interruption loses no finished one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import write_atomically
from efflab.records.cost import COST
from efflab.records.trial import State, Trial

SCHEMA = 1


def read(path: Path, search: str, fits: Callable[[Trial], bool]) -> tuple[list[Trial], str]:
    """Return the trials in a journal and a note on what was lost; a broken line ends it, and what stood after it is redone.

    search: the id in its first line. `fits` says whether a whole trial can be one of this search. Raises RequestError for a
    file of a newer version or another search.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], ""
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
    return json.dumps({"trials": batch}) + "\n"


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _whole(trial: Any, number: int) -> bool:
    fits = isinstance(trial, dict) and all(isinstance(trial.get(key), kind) for key, kind in _KINDS.items())
    return fits and trial["number"] == number and trial["state"] in get_args(State) and _spent(trial["cost"]) and all(
        type(value) in (int, float) and math.isfinite(value) for value in [*trial["values"].values(), trial["took_s"]]
    ) and all(_spent(cost) for cost in trial.get("paused", {}).values())  # fmt: skip


def _spent(cost: Any) -> bool:
    return isinstance(cost, dict) and all(type(cost.get(key)) in (int, float) for key in COST)


_KINDS = {
    **dict.fromkeys(("recipe", "state", "why"), str),
    **dict.fromkeys(("point", "values", "cost"), dict),
    "number": int,
    "stages": list,
    "took_s": int | float,
}
