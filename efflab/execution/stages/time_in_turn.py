"""Times artefacts in turn, alone on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efflab.artefacts.artefact import Artefact
from efflab.contracts.task import Split
from efflab.foundation.errors import RequestError, Status, Unavailable
from efflab.foundation.machine import fingerprint, machine_id
from efflab.foundation.progress import Report
from efflab.plan.stage_results import Timed
from efflab.plan.stage_specs import TimeInTurn


def time_in_turn(spec: TimeInTurn, needs: Sequence[Path], folder: Path, report: Report) -> Timed:
    """Measure the members of a group in turn; `needs` are their folders, each once.

    A batch that is larger than the validation split repeats its examples; `examples` says of how many different ones a call
    is made. Raises Unavailable on another machine than that of the plan.
    """
    from efflab.profiling.latency import Budget, LatencyJob, measure_group

    here = machine_id(fingerprint())
    if spec.machine not in ("", here):
        raise Unavailable(f"its times are to be those of the machine {spec.machine}, and this is {here}")
    batch, split = spec.batch_size, spec.task.load().split("validation")
    if not len(split):
        raise RequestError("the validation split has no examples, and models are timed on them")
    batches = max(1, min(spec.inputs, len(split) // batch))
    inputs = folder / "inputs.npz"
    save_batches(inputs, split, batches, batch)
    artefacts = dict(zip(dict.fromkeys(spec.members.values()), map(Artefact.open, needs), strict=True))
    misfits: dict[str, tuple[Status, str]] = {
        label: ("unavailable", f"the model takes batches of {takes}; export it with a free first axis to time others")
        for label, made in spec.members.items()
        if (takes := artefacts[made].interface.batch) not in (None, batch)
    }
    jobs = [
        LatencyJob(label, artefacts[made].folder, spec.backend, spec.settings, inputs, batches)
        for label, made in spec.members.items()
        if label not in misfits
    ]
    timings = measure_group(jobs, Budget(**spec.budget), spec.threads, report) if jobs else {}
    examples = min(batch, len(split))
    repeated = {"examples": examples} if examples < batch else {}
    good = {label: {**timing, **repeated} for label, timing in timings.items() if isinstance(timing, dict)}
    bad = {label: (timing.status, str(timing)) for label, timing in timings.items() if not isinstance(timing, dict)}
    return Timed(good, bad | misfits, examples)


def save_batches(path: Path, split: Split, batches: int, size: int) -> None:
    """Write an .npz file of the inputs of so many batches from the start of a split, one batch after the other.

    Each batch is made by the split itself, so that texts are filled up to the longest one of their batch only.
    """
    import numpy as np

    places = [[one % len(split) for one in range(start * size, (start + 1) * size)] for start in range(batches)]
    np.savez(path, *(array for several in places for array in split.batch(several).inputs))


def timed_in_full(spec: TimeInTurn, result: Timed) -> bool:
    """Say whether a kept result is of whole batches: older ones were cut short where the split has fewer examples."""
    return result.examples is not None or spec.batch_size <= len(spec.task.load().split("validation"))
