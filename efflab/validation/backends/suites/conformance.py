"""Runs one of ONNX's conformance cases on a backend."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from efflab.artefacts.artefact import Artefact
from efflab.validation.backends.bench import Bench, call, fallbacks_in_words
from efflab.validation.backends.onnx_cases import read_case
from efflab.validation.backends.output_difference import difference
from efflab.validation.backends.tolerance import rule_of


def run_operator(bench: Bench, request: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on the case in folder `request["folder"]`; what the backend raises passes through."""
    folder, largest = Path(request["folder"]), 0.0
    model, sets = read_case(folder)
    session = bench.prepare(Artefact(folder, "onnx"), tuple(sets[0].inputs))
    rules = partial(_rule, bench, request["operator"])
    for inputs, wanted in sets:
        found = call(session, tuple(inputs), len(model.graph.output))
        # trailing optional outputs without an expected value are free
        gap = difference(found[: len(wanted)], wanted, rules)
        largest = max(largest, gap.max_abs_error)
        if gap.what:
            return {"verdict": "wrong", "reason": gap.what, "numbers": {"max_abs_error": _finite(largest)}}
    elsewhere = fallbacks_in_words(session)
    verdict = "fell back" if elsewhere else "pass"
    return {"verdict": verdict, "reason": elsewhere, "numbers": {"max_abs_error": _finite(largest)}}


def run_tensors(bench: Bench, request: dict[str, Any]) -> dict[str, Any]:
    """Run the graph in a folder once and write all its outputs to `request["out"]`."""
    folder = Path(request["folder"])
    with np.load(request["inputs"], allow_pickle=False) as file:
        inputs = tuple(file[f"arr_{index}"] for index in range(len(file.files)))
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    session = bench.prepare(Artefact(folder, "onnx"), inputs)
    np.savez(request["out"], *call(session, inputs, len(model.graph.output)))
    return {"verdict": "pass", "reason": "", "numbers": {}}


def _rule(bench: Bench, operator: str, dtype: str) -> Any:
    return rule_of(bench.rules, operator, dtype, bench.name)


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None
