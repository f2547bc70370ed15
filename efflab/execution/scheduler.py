"""Drives stages through an executor: each when what it needs is there; its worker stores its result, its failure is noted."""

from __future__ import annotations

from dataclasses import replace

from efflab.artefacts.user_models import named_models
from efflab.contracts.executor import Done, Executor, Job, Progress
from efflab.execution.outcomes import Outcomes
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError
from efflab.foundation.machine import fingerprint
from efflab.plan.stage_graph import Stage
from efflab.plan.stage_results import StageResult, Timed, read_result
from efflab.plan.stage_specs import TimeInTurn
from efflab.records.record import repeats
from efflab.records.store import Store

WHOLE_DISK = "the disk is full; what is finished is kept. Free some space and run the same command again"
UNFOUNDED = "it is said to be finished, and what the store holds of it is no such result"
OF_THE_REQUEST = ("baseline", "latency")  # cards and data are part of the request, like the recipe


def drive(executor: Executor, waiting: dict[str, Stage], store: Store, outcomes: Outcomes, watcher: Watcher) -> None:
    """Run `waiting` to its end; results and failures go to `outcomes`, and what a stage lacks must be there or waiting too.

    Groups are timed last, when nothing else waits or runs, those of their members that have a model.
    """
    running: dict[str, Stage] = {}
    while waiting or running:
        _drop_broken(waiting, outcomes, watcher)
        models_left = any(stage.kind != "latency" for stage in (*waiting.values(), *running.values()))
        for stage in _models(waiting, outcomes) if models_left else _groups(waiting, outcomes):
            if executor.free(stage.spec.resources) > 0:
                del waiting[stage.id]
                running[stage.id] = stage
                watcher.begin(stage)
                spec = stage.spec.model_dump(mode="json")
                executor.submit(Job(stage.id, stage.title, spec, stage.needs, stage.spec.resources, named_models()))
        for event in executor.wait() if running else []:
            if isinstance(event, Progress):
                watcher.progress(event.stage_id, event.done, event.total, event.note)
            else:
                _finish(running.pop(event.stage_id), event, store, outcomes, watcher)


def _drop_broken(waiting: dict[str, Stage], outcomes: Outcomes, watcher: Watcher) -> None:
    """Take out the stages that can never run, since one before them failed or has paused."""
    for one, stage in list(waiting.items()):
        if stage.kind == "latency":
            continue  # it measures what there is
        broken = [need for need in stage.needs if need in outcomes.failures]
        if any(need in outcomes.paused for need in stage.needs):
            del waiting[one]
            outcomes.paused[one] = None
        elif broken:
            del waiting[one]
            status, reason = outcomes.failures[broken[0]]
            outcomes.failures[one] = (status, reason)
            watcher.end(stage, "skipped", f"an earlier stage {status}", 0.0)


def _models(waiting: dict[str, Stage], outcomes: Outcomes) -> list[Stage]:
    """Return the stages that make or score a model and can do so now."""
    models = (stage for stage in waiting.values() if stage.kind != "latency")
    return [stage for stage in models if all(need in outcomes.results for need in stage.needs)]


def _groups(waiting: dict[str, Stage], outcomes: Outcomes) -> list[Stage]:
    """Return the groups that are to be timed, each with its members that have a model, and take out all others."""
    found = []
    for one, stage in list(waiting.items()):
        if isinstance(stage.spec, TimeInTurn) and outcomes.lacking(one, stage.spec):
            members = outcomes.with_model(stage.spec)
            spec = stage.spec.model_copy(update={"members": members})
            found.append(replace(stage, spec=spec, needs=tuple(dict.fromkeys(members.values()))))
        else:
            del waiting[one]
    return found


def _finish(stage: Stage, done: Done, store: Store, outcomes: Outcomes, watcher: Watcher) -> None:
    if done.status == "disk full":
        raise RequestError(WHOLE_DISK)
    if done.refused and stage.kind in OF_THE_REQUEST:
        raise RequestError(done.reason)
    outcomes.machines[stage.id] = done.machine or fingerprint()
    status, why = done.status, done.reason
    if done.status == "paused":
        outcomes.paused[stage.id] = done.result  # type: ignore[assignment]
    elif done.status == "ok":
        result = _believed(stage, done, store)
        if result is None:
            status, why = outcomes.failures[stage.id] = "failed", UNFOUNDED
            store.discard(stage.id)
        else:
            outcomes.results[stage.id] = result
        if isinstance(result, Timed):
            status, why = "failed" if result.reasons else "ok", result.failures()
            if note := repeat_note(stage, result):
                watcher.say(note)
    else:
        store.discard(stage.id)
        outcomes.failures[stage.id] = (done.status, done.reason)
    watcher.end(stage, status, why, done.seconds)


def _believed(stage: Stage, done: Done, store: Store) -> StageResult | None:
    """Return the result of a stage that is said to be finished: what the store holds of it; None if that is not so."""
    try:
        told = read_result(stage.kind, done.result)
        if isinstance(told, Timed) and not told.timings:
            return told  # of which there is nothing to keep
        kept = store.finished(stage.id)
        return read_result(stage.kind, kept.result) if kept else None
    except (RequestError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def repeat_note(stage: Stage, result: Timed) -> str:
    """Say where batches of a group are larger than the split of whose examples they are made; empty where they are not."""
    spec, examples = stage.spec, result.examples
    if not isinstance(spec, TimeInTurn) or examples is None or examples >= spec.batch_size:
        return ""
    return f"note: {stage.title}: {repeats(examples)}"
