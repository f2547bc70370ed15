"""Runs whole calls of a user's own model, and holds all outputs against those of a reference on the very same calls.

Nothing is assumed of what the axes mean: a first axis may be a batch, a length, or neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.artefacts.interface import leaves
from efflab.validation.backends.bench import Bench, fallbacks_in_words
from efflab.validation.backends.onnx_cases import inputs_of
from efflab.validation.backends.suites.parity import compare

NOTHING = 1e-6  # an error that means nothing where the right output is zero throughout
SLACK = 4.0  # times the error that is allowed on average: classes as near as that may change places


class Held(NamedTuple):
    """What is wrong with outputs in words ("" if nothing), in which call, and how near the worst call came."""

    wrong: str
    call: int
    numbers: dict[str, Any]


def run_calls(bench: Bench, request: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on the calls in files `request["calls"]`, run in turn on one session.

    With `out` their outputs are written to that folder instead, a file for each call with the call's name; told are how
    many `values` there are and the share that is `finite`. With `evaluator` the onnx package runs them, not the backend.
    """
    files, artefact = [Path(name) for name in request["calls"]], Artefact(Path(request["folder"]), request["form"])
    session: Any = _Evaluator(artefact) if request.get("evaluator") else bench.prepare(artefact, read_arrays(files[0]))
    if request.get("out"):
        values = finite = 0
        for file in files:
            found = _outputs(session, file)
            np.savez(Path(request["out"]) / file.name, *found)
            values += sum(leaf.size for leaf in found)
            finite += sum(int(np.isfinite(leaf).sum()) for leaf in found)
        return {"verdict": "pass", "reason": "", "numbers": {"values": values, "finite": finite / max(1, values)}}
    folder = Path(request["references"])
    held = hold(((_outputs(session, file), read_arrays(folder / file.name)) for file in files), request)
    if held.wrong:
        at = f" (call {held.call + 1} of {len(files)})" if len(files) > 1 else ""
        return {"verdict": "wrong", "reason": held.wrong + at, "numbers": held.numbers | {"call": held.call}}
    elsewhere = fallbacks_in_words(session)
    return {"verdict": "fell back" if elsewhere else "pass", "reason": elsewhere, "numbers": held.numbers}


def hold(pairs: Iterable[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]], limits: dict[str, Any]) -> Held:
    """Hold the outputs of calls against the right ones, up to the first call that is wrong."""
    worst: dict[str, Any] = {}
    same = rows = number = 0
    for number, (found, wanted) in enumerate(pairs):
        if [leaf.shape for leaf in found] != [leaf.shape for leaf in wanted]:
            sides = [", ".join(str(leaf.shape) for leaf in side) for side in (found, wanted)]
            return Held(f"outputs of shape {sides[0]}, expected {sides[1]}", number, {})
        numbers = compare([*found], [*wanted])
        level = numbers["sqnr_db"] = _level(found, wanted, numbers)
        if level is not None and level < limits["min_sqnr_db"]:
            said = f"signal over error is {level:.1f} dB, wanted {limits['min_sqnr_db']:g}: {limits['why']}"
            return Held(said if level > -999 else "values that are not finite where they should be", number, numbers)
        worst = numbers if not worst or (level or 999) < (worst["sqnr_db"] or 999) else worst
        agreed, counted = _agreed(found, wanted, limits["min_sqnr_db"])
        same, rows = same + agreed, rows + counted
    worst["top1_agreement"] = same / rows if rows else None
    if rows and same / rows < limits["min_agreement"]:
        said = f"the same class in {100 * same / rows:.1f} % of rows, wanted {100 * limits['min_agreement']:g} %"
        return Held(said, number, worst)
    return Held("", number, worst)


def read_arrays(file: Path) -> tuple[np.ndarray, ...]:
    """Return the arrays arr_0, arr_1, ... of an .npz file."""
    with np.load(file, allow_pickle=False) as arrays:
        return tuple(arrays[f"arr_{index}"] for index in range(len(arrays.files)))


class _Evaluator:
    """The evaluator of the onnx package, called like a session."""

    def __init__(self, artefact: Artefact):
        import onnx
        from onnx.reference import ReferenceEvaluator

        model = onnx.load(artefact.onnx)
        self.names = [one.name for one in inputs_of(model)]
        self.evaluator = ReferenceEvaluator(model)

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> Any:
        return self.evaluator.run(None, dict(zip(self.names, inputs, strict=True)))


def _outputs(session: Any, file: Path) -> list[np.ndarray]:
    """Run one call and return its outputs as copies that numpy can write and compare."""
    found = []
    for leaf in map(np.asarray, leaves(session(read_arrays(file)))):
        foreign = leaf.dtype.isbuiltin == 2  # bfloat16 and its like are no types of numpy's own
        if leaf.dtype.kind not in "biuf" and not foreign:
            raise NotImplementedError(f"efflab cannot compare an output of type {leaf.dtype}")
        found.append(np.array(leaf.astype(np.float32) if foreign else leaf))
    return found


def _level(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], numbers: dict[str, Any]) -> float | None:
    """Return signal over error in dB of the worst output, None for equality.

    Each output counts by itself, so that one of large values does not hide the error of another; one that is zero
    throughout has no signal, and counts together with the others.
    """
    if numbers["max_abs_error"] is not None and numbers["max_abs_error"] <= NOTHING and not any(map(np.any, wanted)):
        return None
    levels = [numbers["sqnr_db"]]
    if len(wanted) > 1:
        pairs = [(a, b) for a, b in zip(found, wanted, strict=True) if np.any(b[np.isfinite(b)])]
        levels += [compare([a], [b])["sqnr_db"] for a, b in pairs]
    told = [level for level in levels if level is not None]
    return min(told) if told else None


def _agreed(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], min_sqnr_db: float) -> tuple[int, int]:
    """Return in how many rows of the first output with classes the class is the same, and of how many rows.

    A class counts as the same where the reference gives it about as much as its own: made-up inputs have near ties.
    """
    chosen = next((pair for pair in zip(found, wanted, strict=True) if _has_classes(pair[1])), None)
    if chosen is None:
        return 0, 0
    got, right = (side.astype(np.float64).reshape(-1, side.shape[-1]) for side in chosen)
    kept = np.isfinite(got).all(axis=1) & np.isfinite(right).all(axis=1)
    got, right = got[kept], right[kept]
    if not len(right):
        return 0, 0
    slack = SLACK * float(np.sqrt(np.mean(np.square(right)))) * 10 ** (-min_sqnr_db / 20)
    at = np.take_along_axis(right, got.argmax(axis=1)[:, None], axis=1)[:, 0]
    return int((at >= right.max(axis=1) - slack).sum()), len(right)


def _has_classes(leaf: np.ndarray) -> bool:
    return leaf.ndim > 0 and leaf.dtype.kind == "f" and leaf.shape[-1] > 1 and leaf.size > 0
