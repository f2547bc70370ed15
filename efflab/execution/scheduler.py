"""Drives stages through an executor: each when what it needs is there, its result into the store, its failure noted."""

from __future__ import annotations

import shutil

from efflab.contracts.executor import Done, Executor, Job, Progress
from efflab.execution.outcomes import Outcomes, keep
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError
from efflab.plan.stage_graph import Stage
from efflab.records.store import Store

WHOLE_DISK = "the disk is full; what is finished is kept. Free some space and run the same command again"


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
        keep(stage, done.result, done.seconds, store)
        outcomes.results[stage.id] = done.result
    else:
        shutil.rmtree(store.work_folder(stage.id), ignore_errors=True)
        outcomes.failures[stage.id] = (done.status, done.reason)
    watcher.end(stage, done.status, done.reason, done.seconds)
