"""Times artefacts in turn, alone on the machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from efflab.contracts.task import Split, Task
from efflab.execution.outcomes import Outcomes, keep
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError
from efflab.plan.stage_graph import Stage
from efflab.records.record import repeats
from efflab.records.store import Store


def time_in_turn(
    stage: Stage, task: Task, store: Store, outcomes: Outcomes, watcher: Watcher
) -> tuple[dict[str, Any], float]:
    """Measure the members of a latency stage that have a model, in turn; gives the stage's result, and seconds.

    The result has times, and status and reason of failures, by label; it is kept where there are times. A batch that is
    larger than the validation split repeats its examples; `examples` says of how many different ones a call is made.
    """
    from efflab.profiling.latency import Budget, LatencyJob, measure_group

    spec, inputs = stage.spec, store.work_folder(stage.id) / "inputs.npz"
    batch, split = spec["batch_size"], task.split("validation")
    if not len(split):
        raise RequestError("the validation split has no examples, and models are timed on them")
    batches = max(1, min(spec.get("inputs", 1), len(split) // batch))
    if batch > len(split):
        watcher.say(f"note: {stage.title}: {repeats(len(split))}")
    save_batches(inputs, split, batches, batch)
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
        keep(stage, result, seconds, store)
    return result, seconds


def save_batches(path: Path, split: Split, batches: int, size: int) -> None:
    """Write an .npz file of the inputs of so many batches from the start of a split, one batch after the other.

    Each batch is made by the split itself, so that texts are filled up to the longest one of their batch only.
    """
    import numpy as np

    places = [[one % len(split) for one in range(start * size, (start + 1) * size)] for start in range(batches)]
    np.savez(path, *(array for several in places for array in split.batch(several).inputs))


def timed_in_full(stage: Stage, result: dict[str, Any], task: Task) -> bool:
    """Say whether a kept latency result is of whole batches: older ones were cut short where the split has fewer examples."""
    return "examples" in result or stage.spec["batch_size"] <= len(task.split("validation"))
