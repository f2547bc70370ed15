"""Scores an artefact on a split, on one backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efflab.artefacts.artefact import Artefact
from efflab.contracts.examples import first_inputs, quality_batch
from efflab.contracts.task import Task
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.foundation.step_errors import in_words
from efflab.plan.stage_results import Scored
from efflab.plan.stage_specs import Score


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
    from efflab.records.record import SAME_QUALITY
    from efflab.records.samples import pack_scores

    artefact = Artefact.open(made)
    task = spec.task.load().for_model(artefact.interface)
    backend = registry.load("backends", spec.backend)(**spec.settings)
    split = task.split(spec.split)
    size = quality_batch(task, split)
    with in_words(spec.backend, None, type(backend), "run"):
        session = backend.prepare(artefact, first_inputs(split, size), 1)
        scores = evaluate(session, task, split, size)
    value = float(task.quality(scores))
    if not 0 <= value <= 1:
        what = f"task {spec.task.name} gives a {task.metric} of {value:.6g}, and efflab takes shares from 0 to 1"
        raise RequestError(f"{what}; give a metric that is one, such as 1 / (1 + perplexity)")
    if scores.ndim == 1 and abs(float(scores.mean(dtype=float)) - value) > SAME_QUALITY:
        scores = scores[:, None]  # kept as statistics of each example: their mean is not the metric
    return Scored({"metric": task.metric, "value": value, "scores": pack_scores(scores)})
