"""Does a stage of any kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from efflab.execution.stages.apply_technique import run_step
from efflab.execution.stages.load_baseline import run_baseline
from efflab.execution.stages.score import run_quality
from efflab.foundation.progress import Report


def execute(kind: str, spec: dict[str, Any], needs: list[Path], folder: Path, report: Report) -> dict[str, Any]:
    """Do one stage in `folder` and return its result as plain data; `needs` are the folders of the stages before it."""
    return EXECUTE[kind](spec, needs, folder, report)


EXECUTE: dict[str, Callable[..., dict[str, Any]]] = {
    "baseline": run_baseline,
    "step": run_step,
    "quality": run_quality,
    "validation": partial(run_quality, split_name="validation"),  # what a search chooses by
}
