"""The behaviour suite: what a backend must do beside giving right numbers. One function a check, in behaviour_checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.validation.backends.bench import Bench
from efflab.validation.backends.suites.behaviour_checks import (
    Found,
    Subject,
    corrupt_file,
    empty_batch,
    huge_batch,
    inputs_untouched,
    loads_without_growth,
    nan_is_carried,
    outputs_are_kept,
    repeatable,
    rows_are_apart,
    runs_where_it_says,
    sessions_side_by_side,
    threads_obeyed,
    unknown_operator,
    waiting_waits,
)


def run_behaviour(bench: Bench, request: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict of one check; what the backend raises passes through."""
    with np.load(request["inputs"], allow_pickle=False) as file:
        inputs = tuple(file[f"arr_{index}"] for index in range(len(file.files)))
    subject = Subject(bench, Artefact(Path(request["folder"]), request["form"]), inputs)
    verdict, reason = CHECKS[request["name"]](subject)
    return {"verdict": verdict, "reason": reason, "numbers": {}}


CHECKS: dict[str, Callable[[Subject], Found]] = {
    check.__name__: check
    for check in (
        repeatable, inputs_untouched, outputs_are_kept, waiting_waits, threads_obeyed, sessions_side_by_side, rows_are_apart,
        nan_is_carried, empty_batch, huge_batch, loads_without_growth, corrupt_file, unknown_operator, runs_where_it_says,
    )
}  # fmt: skip


QUICK = tuple(name for name in CHECKS if name not in ("loads_without_growth", "huge_batch"))


LIMIT_S = {"loads_without_growth": 900.0}
