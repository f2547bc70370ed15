"""Holds what a step made against what it was given, on real examples."""

from __future__ import annotations

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.cards.model_check import Arrays, runner, scored_outputs
from efflab.contracts.examples import example_bytes, first_inputs
from efflab.contracts.task import Split, Task
from efflab.foundation.errors import RequestError
from efflab.profiling.quality import parity
from efflab.records.record import Fidelity

MOST_EXAMPLES = 64  # on which a step's outputs are held against its input's


MOST_INPUT_BYTES = 32_000_000  # of these examples together


MOST_DB = 200.0  # stands for outputs that are equal to the last bit


QUIET_DB = 10.0  # below it a quantised model's outputs are noted to have changed much


LEAST_AGREEMENT = 0.5  # below it a quantised model answers otherwise more often than not
DWARFS = 1000.0  # times the median column, and above the next number: the column is a class that is switched off
SWITCHED_OFF = 1e4
KERNEL_DB = 20.0  # two ways to compute one graph should lie nearer than that


def check_step(name: str, least_db: float | None, parent: Artefact, child: Artefact, task: Task) -> Fidelity:
    """Hold what a step made against what it was given, on real examples; return the comparison.

    Raises RequestError for a model that does not load or run, gives other outputs, or NaN or infinity where there were
    numbers, and below `least_db`, the signal over error that the technique promises.
    """
    split = task.split("validation")
    size = _example_count(split, task.interface.batch)
    arrays = first_inputs(split, size)
    theirs = scored_outputs(task, runner(parent), arrays)
    try:
        ours = scored_outputs(task, runner(child), arrays)
    except RequestError as error:
        raise RequestError(f"{name}: what it made cannot be used: {error}") from error
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        shapes = " and ".join(", ".join("x".join(map(str, one.shape[1:])) for one in side) for side in (theirs, ours))
        raise RequestError(f"{name}: the outputs have other shapes than before ({shapes})")
    broken = sum(int((~np.isfinite(now) & np.isfinite(was)).sum()) for now, was in zip(ours, theirs, strict=True))
    if broken:
        total = sum(one.size for one in ours)
        what = f"{broken} of {total} outputs are NaN or infinite that were numbers before"
        raise RequestError(f"{name}: {what}; the model would be useless")
    found = parity(*_without_switched_off(ours, theirs))
    decibel = max(-MOST_DB, min(MOST_DB, found["sqnr_db"] or 0.0))
    # at 0 dB the error is as large as the outputs: nothing of them is left
    if least_db is not None and (decibel < least_db or decibel == 0):
        what = (
            f"its outputs lie {decibel:.1f} dB (signal over error) from those before, at least {least_db:g} is wanted"
        )
        way_out = (
            "take more bits, keep layers in float, or try another engine" if least_db == 0 else "leave this step out"
        )
        raise RequestError(f"{name}: {what}; the step broke the model; {way_out}")
    notes = []
    if least_db is not None and decibel < QUIET_DB:
        notes.append(f"{name}: the outputs changed much, {decibel:.1f} dB signal over error")
    if child.form == "onnx":
        notes += _on_this_processor(name, child, task, arrays, ours)
    agreement = parity(ours, theirs)["top1_agreement"]
    if least_db is not None and agreement is not None and float(agreement) < LEAST_AGREEMENT:
        share = f"{100 * float(agreement):.0f} %"
        notes.append(f"{name}: the highest output stayed the highest in only {share} of the examples")
    return {"sqnr_db": round(decibel, 2), "agreement": agreement, "examples": size, "warnings": notes}


def _without_switched_off(
    ours: list[np.ndarray], theirs: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return outputs without the columns that dwarf all others: a class switched off by -1e30 would hide every error."""
    kept: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for now, was in zip(ours, theirs, strict=True):
        if was.ndim == 2 and was.shape[1] > 2:
            heights = np.nan_to_num(np.abs(was.astype(float)), nan=0.0, posinf=0.0).max(axis=0)
            usual = heights <= max(DWARFS * float(np.median(heights)), SWITCHED_OFF)
            now, was = now[:, usual], was[:, usual]
        kept[0].append(now)
        kept[1].append(was)
    return kept


def _on_this_processor(name: str, child: Artefact, task: Task, arrays: Arrays, right: list[np.ndarray]) -> list[str]:
    """Return a note where ONNX Runtime's kernels for this processor give other outputs than ONNX defines.

    Products of unsigned and signed bytes saturate on x86 processors without VNNI (onnxruntime, "Quantize ONNX models").
    """
    found = parity(scored_outputs(task, runner(child, optimised=True), arrays), right)["sqnr_db"] or 0.0
    if found >= KERNEL_DB:
        return []
    what = f"ONNX Runtime on this processor gives outputs {found:.1f} dB from those that the graph defines"
    return [
        f"{name}: {what}; without VNNI its int8 products saturate, so quality measured here is worse than elsewhere"
    ]


def _example_count(split: Split, batch: int | None) -> int:
    """Return on how many examples a step is checked: whole batches where the model takes a fixed one."""
    count = max(2, min(MOST_EXAMPLES, len(split), MOST_INPUT_BYTES // example_bytes(split)))
    return max(batch, count // batch * batch) if batch else count
