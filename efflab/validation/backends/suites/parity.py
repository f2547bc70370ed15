"""Runs a model on a backend and holds its outputs against those of a reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.profiling.quality import evaluate, leaves, parity, predict
from efflab.records.samples import pack_scores
from efflab.validation.backends.bench import Bench, fallbacks_in_words
from efflab.validation.zoo import zoo_task

QUALITY_BATCH = 250


def run_model(bench: Bench, request: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on one model at one batch size; with `out` instead, write its outputs there as the reference.

    `batches`: batch sizes in turn on one session, prepared for the first; more than one asks for dynamic shapes.
    """
    artefact = Artefact(Path(request["folder"]), request["form"])
    with np.load(request["inputs"], allow_pickle=False) as file:
        inputs = tuple(file[f"arr_{index}"] for index in range(len(file.files)))
    batches = request["batches"]
    session = bench.prepare(artefact, tuple(array[: batches[0]] for array in inputs))
    if request.get("out"):
        found = predict(session, inputs, batches[0])
        np.savez(request["out"], *leaves(found))
        return {"verdict": "pass", "reason": "", "numbers": {}}
    with np.load(request["reference"], allow_pickle=False) as file:
        reference = [file[f"arr_{index}"] for index in range(len(file.files))]
    worst: dict[str, Any] = {}
    for batch in batches:
        count = min(len(inputs[0]), max(batch, 8))
        found = [*leaves(predict(session, tuple(array[:count] for array in inputs), batch))]
        wanted = [leaf[:count] for leaf in reference]
        if [leaf.shape for leaf in found] != [leaf.shape for leaf in wanted]:
            shapes = [", ".join(str(leaf.shape) for leaf in side) for side in (found, wanted)]
            return {"verdict": "wrong", "reason": f"outputs of shape {shapes[0]}, expected {shapes[1]}", "numbers": {}}
        numbers = compare(found, wanted)
        wrong = _wrong(numbers, request)
        worst = numbers if not worst or (numbers["sqnr_db"] or 999) < (worst["sqnr_db"] or 999) else worst
        if wrong:
            at = f" at batch {batch}" if len(batches) > 1 else ""
            return {"verdict": "wrong", "reason": wrong + at, "numbers": numbers}
    elsewhere = fallbacks_in_words(session)
    return {"verdict": "fell back" if elsewhere else "pass", "reason": elsewhere, "numbers": worst}


def run_quality(bench: Bench, request: dict[str, Any]) -> dict[str, Any]:
    """Score a trained model on the test images of the zoo's task; the scores of all images are told, packed."""
    task = zoo_task()
    split = task.split("test")
    session = bench.prepare(
        Artefact(Path(request["folder"]), request["form"]), tuple(a[:QUALITY_BATCH] for a in split.inputs)
    )
    scores = evaluate(session, task, split, QUALITY_BATCH)
    if len(scores) != len(split):
        told = f"outputs whose first axis is {len(scores)} long for {len(split)} examples"
        return {"verdict": "wrong", "reason": told, "numbers": {}}
    return {
        "verdict": "pass",
        "reason": "",
        "numbers": {"quality": task.quality(scores), "scores": pack_scores(scores)},
    }


def compare(found: list[np.ndarray], wanted: list[np.ndarray]) -> dict[str, Any]:
    """Return how two lists of outputs compare; `sqnr_db` is None where they are equal bit for bit."""
    told = parity(found, wanted)
    a, b = (np.concatenate([leaf.astype(float).ravel() for leaf in side]) for side in (found, wanted))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    numbers = {**told, "cosine": float(a @ b) / norm if norm else 1.0, "mean_abs_error": float(np.abs(a - b).mean())}
    sqnr = told["sqnr_db"]
    return {key: value if value is None or math.isfinite(value) else None for key, value in numbers.items()} | {
        "sqnr_db": None if sqnr == math.inf else -999.0 if sqnr == -math.inf else sqnr
    }


def _wrong(numbers: dict[str, Any], request: dict[str, Any]) -> str:
    sqnr, agreement = numbers["sqnr_db"], numbers["top1_agreement"]
    if sqnr is not None and sqnr < request["min_sqnr_db"]:
        return f"signal over error is {sqnr:.1f} dB, wanted {request['min_sqnr_db']:g}: {request['why']}"
    if agreement is not None and agreement < request["min_agreement"]:
        return f"the same class in {100 * agreement:.1f} % of rows, wanted {100 * request['min_agreement']:g} %"
    return ""
