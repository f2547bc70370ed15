"""The speed suite: latency of models on a backend over that of a reference backend, timed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from efflab.foundation import registry
from efflab.foundation.child import Failure
from efflab.foundation.progress import Report
from efflab.profiling.latency import Budget, LatencyJob, measure_group
from efflab.statistics import (
    Interval,
    covering,
    ratio_over_starts,
    speed_tests,
    speed_verdict,
    time_by_start,
    two_speeds,
)
from efflab.validation.backends.pool import Opening
from efflab.validation.zoo import ZooModel

BATCHES = (1, 64)
BUDGET = Budget(min_runs=60, min_seconds=0.3, max_seconds=1.0, rounds=10, processes=5)
QUICK_BUDGET = Budget(min_runs=30, min_seconds=0.2, max_seconds=0.6, rounds=6, processes=3)


class Speed(NamedTuple):
    """One model at one batch size: milliseconds of both backends, and reference over backend with its interval."""

    model: str
    batch: int
    latency_ms_p50: float | None
    reference_ms_p50: float | None
    ratio: Interval | None
    verdict: str  # faster, slower, no difference, undecided, or why there is none
    throughput_per_s: float | None


def run_speed(
    opening: Opening, reference: Opening, zoo: Sequence[ZooModel], root: Path, quick: bool = False,
    report: Report = lambda done, total, note: None,
) -> list[Speed]:  # fmt: skip
    """Return the speed of every model that both backends take; of those of the user's own at least why there is none."""
    forms = {one.backend: registry.load("backends", one.backend).takes for one in (opening, reference)}
    chosen = [model for model in zoo if all(form in model.folders for form in forms.values())]
    found: list[Speed] = [
        _untimed(model, f"not timed: {name} takes no graphs; name a reference that does, as in --reference openvino")
        for model in zoo if model.own for name, form in forms.items() if form not in model.folders
    ]  # fmt: skip
    total = sum(len(_batches(model)) for model in chosen)
    for model in chosen:
        for batch in _batches(model):
            report(len(found), total, f"{model.name}, batch {batch}")
            inputs = _inputs(model, batch, root)
            with np.load(inputs, allow_pickle=False) as file:
                scalar = any(not file[name].ndim for name in file.files)
            if scalar:
                found.append(
                    _untimed(model, "not timed: it has an input without axes, which cannot be timed yet", batch)
                )
                continue
            jobs = [
                LatencyJob(label, Path(model.folders[forms[one.backend]]), one.backend, one.settings, inputs)
                for label, one in (("backend", opening), ("reference", reference))
            ]
            found.append(
                _speed(model.name, batch, measure_group(jobs, QUICK_BUDGET if quick else BUDGET, opening.threads))
            )
    return found


def _inputs(model: ZooModel, batch: int, root: Path) -> Path:
    """Return the .npz of one batch of a model."""
    if model.calls is not None:
        return Path(model.calls[batch][0])
    inputs = root / f"{model.name}.{batch}.npz"
    with np.load(model.inputs, allow_pickle=False) as file:
        np.savez(inputs, *(file[name][np.arange(batch) % len(file[name])] for name in file.files))
    return inputs


def _batches(model: ZooModel) -> tuple[int, ...]:
    if model.calls is not None:
        return tuple(batch for batch in BATCHES if batch in model.calls) or (max(model.calls),)
    return (model.fixed_batch,) if model.fixed_batch else BATCHES


def _untimed(model: ZooModel, why: str, batch: int | None = None) -> Speed:
    return Speed(model.name, _batches(model)[0] if batch is None else batch, None, None, None, why, None)


def _speed(model: str, batch: int, timed: dict[str, Any]) -> Speed:
    mine, theirs = timed["backend"], timed["reference"]
    lost = next((f"{name}: {one}" for name, one in timed.items() if isinstance(one, Failure)), None)
    if lost:
        return Speed(model, batch, None, None, None, lost, None)
    mine_ms, theirs_ms = (time_by_start(one["rounds_ms"], one["starts"]) for one in (mine, theirs))
    ratio = ratio_over_starts(theirs_ms, mine_ms)
    if two_speeds(theirs_ms / mine_ms):
        ratio = covering(ratio, theirs_ms / mine_ms, np.ones(1))
    verdict = speed_verdict(ratio, speed_tests(ratio, len(mine_ms) - 1))
    middles = [float(np.exp(np.log(one).mean())) for one in (mine_ms, theirs_ms)]
    return Speed(model, batch, middles[0], middles[1], ratio, verdict, mine["throughput_per_s"])
