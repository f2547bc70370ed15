"""Does a stage of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efflab.execution.stages.apply_technique import run_step
from efflab.execution.stages.load_baseline import run_baseline
from efflab.execution.stages.score import run_quality
from efflab.execution.stages.time_in_turn import time_in_turn
from efflab.foundation.progress import Report
from efflab.plan.stage_results import StageResult
from efflab.plan.stage_specs import ApplyTechnique, LoadBaseline, Score, StageSpec


def execute(spec: StageSpec, needs: Sequence[Path], folder: Path, report: Report) -> StageResult:
    """Do one stage in `folder` and return its result; `needs` are the folders of the stages before it.

    Raises RequestError where the data of its task are not those of the plan.
    """
    spec.task.check()
    if isinstance(spec, LoadBaseline):
        return run_baseline(spec, folder)
    if isinstance(spec, ApplyTechnique):
        return run_step(spec, needs, folder, report)
    if isinstance(spec, Score):
        return run_quality(spec, needs[0])
    return time_in_turn(spec, needs, folder, report)
