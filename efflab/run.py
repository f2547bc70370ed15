"""Runs a plan: models and quality in parallel workers, then latency alone on the quiet machine, then the study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efflab.assemble import Outcomes, assemble
from efflab.environment import fingerprint, machine_id
from efflab.errors import RequestError
from efflab.executor import Done, Executor, Job, LocalExecutor, Progress
from efflab.plan import Plan, Stage, make_plan
from efflab.recipe import load_recipe
from efflab.selection import narrowed, stages_to_force
from efflab.store import Store
from efflab.study import Study, save_study

WHOLE_DISK = "the disk is full; what is finished is kept. Free some space and run the same command again"


@dataclass
class Watcher:
    """Told of what happens; the command line's progress display is one."""

    start: Callable[[Plan, set[str]], None] = lambda plan, cached: None
    begin: Callable[[Stage], None] = lambda stage: None
    progress: Callable[[str, int, int, str], None] = lambda stage_id, done, total, note: None
    end: Callable[[Stage, str, str, float], None] = lambda stage, status, reason, seconds: None


def plan_file(path: Path, only: list[str] | None = None, store: Store | None = None) -> Plan:
    """Load and plan a recipe for this machine."""
    recipe = load_recipe(path)
    settings = machine_id(fingerprint()), recipe.spec.measure.threads or processors()
    plan = make_plan(recipe, *settings)
    if not only:
        return plan
    return narrowed(plan, make_plan(recipe, *settings, only), set(_cached(plan, store or Store.open()).results))


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_file(
    path: Path,
    *,
    only: list[str] | None = None,
    force: list[str] | None = None,
    workers: int | None = None,
    store: Store | None = None,
    watcher: Watcher | None = None,
) -> Study:
    """Run a recipe and return its study; finished stages are taken from the store.

    `force` does the named variants again (all stages if it is empty). Raises RequestError for a wrong recipe or a full disk.
    """
    store = store or Store.open()
    watcher = watcher or Watcher()
    plan = plan_file(path, only, store)
    try:
        store.prepare()
        with store.lock():
            if force is not None:
                for stage in stages_to_force(plan, force):
                    store.remove(stage)
            outcomes = _cached(plan, store)
            watcher.start(plan, plan.stages.keys() & outcomes.results.keys())
            try:
                _run_models(plan, store, outcomes, watcher, workers or processors())
                _run_latency(plan, store, outcomes, watcher)
            finally:
                study = assemble(plan, outcomes)
                save_study(study, store.study_file(plan.recipe.spec.name))
    except OSError as error:
        if error.errno == 28:
            raise RequestError(WHOLE_DISK) from error
        raise
    return study


def _cached(plan: Plan, store: Store) -> Outcomes:
    outcomes = Outcomes()
    for one in (*plan.stages, *plan.left_out):
        result = store.result(one)
        if result is not None:
            outcomes.results[one] = result
    return outcomes


def _run_models(plan: Plan, store: Store, outcomes: Outcomes, watcher: Watcher, workers: int) -> None:
    limits = plan.recipe.spec.limits
    waiting = {
        one: stage for one, stage in plan.stages.items() if stage.kind != "latency" and one not in outcomes.results
    }
    if not waiting:
        return
    count = max(1, min(workers, len(waiting)))
    executor = LocalExecutor(count, max(1, processors() // count), limits.stage_s, limits.memory_gb)
    try:
        _drive(executor, waiting, store, outcomes, watcher)
    finally:
        executor.close()


def _drive(executor: Executor, waiting: dict[str, Stage], store: Store, outcomes: Outcomes, watcher: Watcher) -> None:
    running: dict[str, Stage] = {}
    while waiting or running:
        for one, stage in list(waiting.items()):
            broken = [need for need in stage.needs if need in outcomes.failures]
            if broken:
                del waiting[one]
                status, reason = outcomes.failures[broken[0]]
                outcomes.failures[one] = (status, reason)
                watcher.end(stage, "skipped", f"an earlier stage {status}", 0.0)
            elif executor.free() > 0 and all(need in outcomes.results for need in stage.needs):
                del waiting[one]
                running[one] = stage
                watcher.begin(stage)
                needs = tuple(str(store.folder(need)) for need in stage.needs)
                executor.submit(Job(one, stage.kind, stage.spec, needs, str(store.work_folder(one))))
        for event in executor.wait() if running else []:
            if isinstance(event, Progress):
                watcher.progress(event.stage_id, event.done, event.total, event.note)
            else:
                _finish(running.pop(event.stage_id), event, store, outcomes, watcher)


def _finish(stage: Stage, done: Done, store: Store, outcomes: Outcomes, watcher: Watcher) -> None:
    if done.status == "disk full":
        raise RequestError(WHOLE_DISK)
    if done.refused and stage.kind == "baseline":
        raise RequestError(done.reason)  # a card is part of the request, like the recipe
    if done.status == "ok":
        store.commit(
            stage.id,
            done.result,
            {"kind": stage.kind, "title": stage.title, "spec": stage.spec, "seconds": done.seconds},
        )
        outcomes.results[stage.id] = done.result
    else:
        shutil.rmtree(store.work_folder(stage.id), ignore_errors=True)
        outcomes.failures[stage.id] = (done.status, done.reason)
    watcher.end(stage, done.status, done.reason, done.seconds)


def _run_latency(plan: Plan, store: Store, outcomes: Outcomes, watcher: Watcher) -> None:
    for stage in [stage for stage in plan.stages.values() if stage.kind == "latency" and _lacking(stage, outcomes)]:
        watcher.begin(stage)
        timings, seconds = _measure(plan, stage, store, outcomes, watcher)
        good = {label: timing for label, timing in timings.items() if isinstance(timing, dict)}
        bad = {label: (timing.status, str(timing)) for label, timing in timings.items() if not isinstance(timing, dict)}
        result = {"timings": good, "reasons": bad}
        outcomes.results[stage.id] = result
        if good:
            store.commit(
                stage.id, result, {"kind": stage.kind, "title": stage.title, "spec": stage.spec, "seconds": seconds}
            )
        why = "; ".join(f"{label}: {reason}" for label, (_, reason) in bad.items())
        watcher.end(stage, "failed" if bad else "ok", why, seconds)


def _lacking(stage: Stage, outcomes: Outcomes) -> set[str]:
    """Return the members of a latency group that have a model but no times; for one of them the whole group is measured."""
    result = outcomes.results.get(stage.id, {"timings": {}, "reasons": {}})
    absent = (label for label, (status, _) in result["reasons"].items() if status == "unavailable")
    with_model = {label for label, made in stage.spec["members"].items() if made in outcomes.results}
    return with_model - {*result["timings"], *absent}


def _measure(
    plan: Plan, stage: Stage, store: Store, outcomes: Outcomes, watcher: Watcher
) -> tuple[dict[str, Any], float]:
    import time

    import numpy as np

    from efflab.profiling.latency import Budget, measure_group
    from efflab.profiling.latency import Job as LatencyJob

    spec, folder = stage.spec, store.work_folder(stage.id)
    batch, inputs = spec["batch_size"], folder / "inputs.npz"
    jobs: list[LatencyJob] = []
    for label, made in spec["members"].items():
        if made in outcomes.results:
            row = next(row for row in plan.rows if row.variant == label)
            examples = plan.owner(row).task.split("validation").inputs
            batches = max(1, min(spec.get("inputs", 1), len(examples[0]) // batch))
            if not jobs:
                np.savez(inputs, *(np.ascontiguousarray(array[: batches * batch]) for array in examples))
            jobs.append(LatencyJob(label, store.folder(made), spec["backend"], spec["settings"], inputs, batches))
    started = time.perf_counter()
    timings: dict[str, Any] = {}
    if jobs:
        timings.update(measure_group(jobs, Budget(**spec["budget"]), spec["threads"], _reporter(watcher, stage.id)))
    return timings, time.perf_counter() - started


def _reporter(watcher: Watcher, stage_id: str) -> Callable[..., None]:
    return lambda done, total, note="": watcher.progress(stage_id, done, total, note)


def cached_stages(plan: Plan, store: Store) -> set[str]:
    """Return the stages of a plan that the store already holds; a run looks at their files too before it takes them."""
    return {one for one in plan.stages if store.holds(one)}
