"""Drives stages through an executor: each when what it needs is there, its result into the store, its failure noted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efflab.assemble import Outcomes
from efflab.errors import RequestError
from efflab.executor import Done, Executor, Job, Progress
from efflab.plan import Plan
from efflab.stage_graph import Stage
from efflab.store import Store
from efflab.study import repeats
from efflab.task import Task

WHOLE_DISK = "the disk is full; what is finished is kept. Free some space and run the same command again"


@dataclass
class Watcher:
    """Told of what happens; the command line's progress display is one."""

    start: Callable[[Plan, set[str]], None] = lambda plan, cached: None
    begin: Callable[[Stage], None] = lambda stage: None
    progress: Callable[[str, int, int, str], None] = lambda stage_id, done, total, note: None
    end: Callable[[Stage, str, str, float], None] = lambda stage, status, reason, seconds: None
    say: Callable[[str], None] = lambda sentence: None


def drive(executor: Executor, waiting: dict[str, Stage], store: Store, outcomes: Outcomes, watcher: Watcher) -> None:
    """Run `waiting` to its end; results and failures go to `outcomes`, and what a stage lacks must be there or waiting too."""
    running: dict[str, Stage] = {}
    while waiting or running:
        for one, stage in list(waiting.items()):
            broken = [need for need in stage.needs if need in outcomes.failures]
            if any(need in outcomes.paused for need in stage.needs):
                del waiting[one]
                outcomes.paused[one] = {}
            elif broken:
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
    if done.status == "paused":
        outcomes.paused[stage.id] = done.result
    elif done.status == "ok":
        _keep(stage, done.result, done.seconds, store)
        outcomes.results[stage.id] = done.result
    else:
        shutil.rmtree(store.work_folder(stage.id), ignore_errors=True)
        outcomes.failures[stage.id] = (done.status, done.reason)
    watcher.end(stage, done.status, done.reason, done.seconds)


def time_in_turn(
    stage: Stage, task: Task, store: Store, outcomes: Outcomes, watcher: Watcher
) -> tuple[dict[str, Any], float]:
    """Measure the members of a latency stage that have a model, in turn; gives the stage's result, and seconds.

    The result has times, and status and reason of failures, by label; it is kept where there are times. A batch that is
    larger than the validation split repeats its examples; `examples` says of how many different ones a call is made.
    """
    import numpy as np

    from efflab.profiling.latency import Budget, measure_group
    from efflab.profiling.latency import Job as LatencyJob

    spec, inputs = stage.spec, store.work_folder(stage.id) / "inputs.npz"
    batch, split = spec["batch_size"], task.split("validation")
    if not len(split):
        raise RequestError("the validation split has no examples, and models are timed on them")
    batches = max(1, min(spec.get("inputs", 1), len(split) // batch))
    if batch > len(split):
        watcher.say(f"note: {stage.title}: {repeats(len(split))}")
    np.savez(inputs, *(array[np.arange(batches * batch) % len(split)] for array in split.inputs))
    misfits = {
        label: ("unavailable", f"the model takes batches of {takes}; export it with a free first axis to time others")
        for label, made in spec["members"].items()
        if (takes := outcomes.results.get(made, {}).get("batch")) not in (None, batch)
    }
    jobs = [
        LatencyJob(label, store.folder(made), spec["backend"], spec["settings"], inputs, batches)
        for label, made in spec["members"].items()
        if made in outcomes.results and label not in misfits
    ]
    started = time.perf_counter()

    def report(done: int, total: int, note: str = "") -> None:
        watcher.progress(stage.id, done, total, note)

    timings = measure_group(jobs, Budget(**spec["budget"]), spec["threads"], report) if jobs else {}
    seconds = time.perf_counter() - started
    examples = min(batch, len(split))
    repeated = {"examples": examples} if examples < batch else {}
    good = {label: {**timing, **repeated} for label, timing in timings.items() if isinstance(timing, dict)}
    bad = {label: (timing.status, str(timing)) for label, timing in timings.items() if not isinstance(timing, dict)}
    bad |= misfits
    result = {"timings": good, "reasons": bad, "examples": examples}
    if good:
        _keep(stage, result, seconds, store)
    return result, seconds


def timed_in_full(stage: Stage, result: dict[str, Any], task: Task) -> bool:
    """Say whether a kept latency result is of whole batches: older ones were cut short where the split has fewer examples."""
    return "examples" in result or stage.spec["batch_size"] <= len(task.split("validation"))


def _keep(stage: Stage, result: dict[str, Any], seconds: float, store: Store) -> None:
    about = {"kind": stage.kind, "title": stage.title, "spec": stage.spec, "seconds": seconds}
    store.commit(stage.id, result, about)
