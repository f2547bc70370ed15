"""Does one job, wherever it is: takes what it needs from the store by id, and puts there what it made."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from efflab.artefacts.user_models import name_models
from efflab.contracts.executor import Done, Job
from efflab.execution.stages.execute import execute
from efflab.foundation.errors import Paused, disk_full, writable
from efflab.foundation.machine import fingerprint
from efflab.foundation.progress import Report
from efflab.foundation.wording import shown
from efflab.plan.stage_results import Timed
from efflab.plan.stage_specs import read_spec
from efflab.records.store import Store

LARGEST = 1e300  # whole numbers beyond it are no numbers elsewhere


def unstorable(value: Any, place: str) -> str:
    """Say what in a stage's result cannot be kept and compared, and where; empty if nothing is so."""
    if isinstance(value, dict):
        return next(filter(None, (unstorable(one, f"{place}.{key}") for key, one in value.items())), "")
    if isinstance(value, list | tuple):
        return next(filter(None, (unstorable(one, f"{place}[{index}]") for index, one in enumerate(value))), "")
    if isinstance(value, str):
        return "" if writable(value) == value else f"{place} is text with characters that cannot be written"
    if isinstance(value, int | float) and not -LARGEST < value < LARGEST:
        return f"{place} is {shown(value)}, which is no finite number"
    return ""


def do_job(job: Job, store: Store, report: Report) -> Done:
    """Do a job and say what became of it, and on which machine; what a stage raises passes through."""
    name_models(job.named_models)
    spec, folder = read_spec(job.spec), store.work_folder(job.stage_id)
    if not job.resources.alone:  # timing computes nothing in this process
        import torch

        torch.set_num_threads(job.resources.cores)
    started = time.perf_counter()

    def done(status: str, result: dict[str, Any]) -> Done:
        ending = Done(job.stage_id, status, "", result, time.perf_counter() - started, machine=fingerprint())
        fault = unstorable(result, "its result")
        return replace(ending, status="failed", reason=fault, result={}) if fault else ending

    try:
        result = execute(spec, [store.fetch(need) for need in job.needs], folder, report)
        ending = done("ok", result.data())
        if ending.status != "ok":
            store.discard(job.stage_id)
        elif not isinstance(result, Timed) or result.timings:  # a group of which nothing was timed is to be timed again
            about = {"kind": spec.kind, "title": job.title, "spec": job.spec}
            store.put(
                job.stage_id, folder, ending.result, about | {"seconds": ending.seconds, "machine": ending.machine}
            )
    except Paused as pause:
        return done("paused", pause.result)
    except BaseException as error:  # plug-ins raise anything
        if not disk_full(error):  # then the next try goes on
            store.discard(job.stage_id)
        raise
    return ending
