"""Scores an artefact on a split, on one backend."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from efflab.artefacts.artefact import Artefact
from efflab.contracts.examples import first_inputs, quality_batch
from efflab.contracts.metric import Metric
from efflab.contracts.task import Task
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.foundation.step_errors import in_words
from efflab.plan.stage_results import Scored
from efflab.plan.stage_specs import Score
from efflab.records.record import Quality


def validation_quality(module: Any, task: Task) -> float:
    """Return the quality of a module on the validation split, run by PyTorch itself."""
    import torch

    from efflab.contracts.module_session import ModuleSession
    from efflab.profiling.quality import evaluate

    split = task.split("validation")
    scores = evaluate(ModuleSession(module.eval(), torch.float32), task, split, quality_batch(task, split))
    return float(task.quality(scores))


def run_quality(spec: Score, made: Path) -> Scored:
    """Score the artefact in `made` on one backend, keeping every example's outcome."""
    from efflab.profiling.quality import evaluate
    from efflab.records.quality import rule_of
    from efflab.records.record import SAME_QUALITY
    from efflab.records.samples import pack_scores

    artefact = Artefact.open(made)
    task = spec.task.load().for_model(artefact.interface)
    backend = registry.load("backends", spec.backend)(**spec.settings)
    split = task.split(spec.split)
    size = quality_batch(task, split)
    with in_words(spec.backend, None, type(backend), "run"):
        session = backend.prepare(artefact, first_inputs(split, size), spec.threads)
        scores = evaluate(session, task, split, size)
    metric, *others = task.metrics
    value = float(task.quality(scores))
    error = error_at(metric, value, spec.task.name)
    if scores.ndim == 1 and abs(float(scores.mean(dtype=float)) - value) > SAME_QUALITY:
        scores = scores[:, None]  # kept as statistics of each example: their mean is not the metric
    quality: Quality = {
        "metric": metric.name,
        "value": value,
        "error": error,
        "error_rule": rule_of(metric.error),
        "unit": metric.unit,
        "scores": pack_scores(scores),
    }
    if others:
        quality["others"] = {one.name: float(task.quality_of(scores, one.name)) for one in others}
    return Scored(quality)


def error_at(metric: Metric, value: float, task: str) -> float:
    """Return the error of a metric's value; raise RequestError where it is no error."""
    error = float(metric.error(value)) if math.isfinite(value) else math.nan
    if math.isfinite(error) and error >= 0:
        return error
    what = f"task {task} gives a {metric.name} of {value:.6g}"
    if not math.isfinite(value):
        raise RequestError(f"{what}, which is no number that can be compared")
    raise RequestError(
        f"{what}, whose error is {error:.6g}, and an error is a number from 0 on; "
        'say in the task how its error follows: metrics = (Metric("loss", lambda loss: loss, "nats"),)'
    )
