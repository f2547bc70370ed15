"""What the spec of a stage names: its task and its baseline, each built once a process."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from efflab.cards.baseline import Baseline, load_baseline
from efflab.contracts.task import Task
from efflab.foundation import registry


@cache
def baseline_of(path: str) -> Baseline:
    """Return the baseline of a card's file; one worker reads it once."""
    return load_baseline(Path(path))


@cache
def _task(name: str, settings: str, near: str) -> Task:
    task: Task = registry.load("tasks", name)(**json.loads(settings))
    return task.beside(Path(near))


def task_of(spec: dict[str, Any]) -> Task:
    """Return the task that a stage names; one worker builds its data once."""
    return _task(spec["task"]["name"], json.dumps(spec["task"]["settings"], sort_keys=True), spec.get("near", ""))
