"""Finds who says what is right for a user's own model: another runtime, or, where two differ, ONNX's own evaluator.

An unoptimised graph in ONNX Runtime defines what is right. Where ONNX Runtime itself is under test, another runtime is the
reference, if it agrees with that unoptimised graph; if it does not, the evaluator of the `onnx` package has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from efflab.artefacts.artefact import Artefact
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.validation.backends.calls import hold, read_arrays
from efflab.validation.backends.pool import CaseOutcome, Opening, run_requests
from efflab.validation.backends.suites.models import LIMIT_S, REFERENCES

EVALUATOR = "onnx"  # the name under which the evaluator of the onnx package is told
EVALUATOR_S = 60.0  # for the calls of a batch size: it is slow
MOST_SAID = 240  # letters of a runtime's own words


class Answers(NamedTuple):
    """The folder of a reference's outputs, the batch sizes of which it has them, and what is to be told."""

    folder: Path
    sizes: set[int]
    notes: list[str]


class Referee(NamedTuple):
    """A model as references run it, and the runtimes that may be references, the one of the definition first."""

    artefact: Artefact
    openings: list[Opening]
    under_test: str

    def run(self, name: str, calls: Sequence[Sequence[str]], out: Path) -> list[CaseOutcome]:
        """Run lists of calls, each in a session of its own; the outputs are files in `out`. `name`: who runs them."""
        out.mkdir(parents=True, exist_ok=True)
        told = {
            "suite": "calls",
            "name": "reference",
            "folder": str(self.artefact.folder),
            "form": "onnx",
            "out": str(out),
        }
        opening = next((one for one in self.openings if one.backend == name), self.openings[0])
        evaluator = {"evaluator": True, "limit_s": EVALUATOR_S} if name == EVALUATOR else {}
        return run_requests(opening, [{**told, "calls": [*files], **evaluator} for files in calls], 1, LIMIT_S)


def runtimes(threads: int) -> list[Opening]:
    """Return the runtimes of graphs that are here, each in the setting in which it is a reference."""
    found = [(name, settings, registry.load("backends", name)) for name, settings in REFERENCES]
    return [
        Opening(name, settings, threads, [])
        for name, settings, one in found
        if one.takes == "onnx" and not one.available()
    ]


def usable(outcome: CaseOutcome) -> bool:
    """Say whether a run gave outputs that can be compared."""
    return outcome.verdict == "pass" and bool(outcome.numbers["values"]) and outcome.numbers["finite"] > 0


def why_not(outcome: CaseOutcome) -> str:
    """Say why a run cannot be used."""
    return (
        outcome.reason[:MOST_SAID]
        if outcome.verdict != "pass"
        else "all its outputs are empty, infinite or not numbers"
    )


def answers(
    referee: Referee, runner: str, calls: dict[int, list[str]], limits: dict[str, Any], root: Path, compared: bool
) -> Answers:
    """Return the outputs of a reference for calls by batch size; raise RequestError if nobody can be one.

    runner: the runtime that inputs were tried on, whose sizes are the ones that the model takes. compared: whether a
    reference other than the backend under test is needed.
    """
    first = _ran(referee, runner, calls, root)
    if not first.sizes:
        raise RequestError(f"no reference runs it: {'; '.join(first.notes)}")
    if not compared or runner != referee.under_test:
        return first
    left = {size: files for size, files in calls.items() if size in first.sizes}
    rivals: list[tuple[str, Answers]] = []
    told: list[str] = []
    for name in [*(one.backend for one in referee.openings if one.backend != runner), EVALUATOR]:
        other = _ran(referee, name, left, root)
        if not other.sizes:
            told += [f"{name} does not run it: {note}" for note in other.notes[:1]]
            continue
        differs = _differs(other, first, left, limits)
        if not differs:
            notes = [f"{name} is the reference, since it agrees with {runner}; {rival} does not" for rival, _ in rivals]
            return Answers(other.folder, other.sizes, [*first.notes, *other.notes, *notes])
        for rival, known in rivals:
            if not _differs(other, known, left, limits):
                return Answers(known.folder, known.sizes, [*first.notes, *known.notes, f"{rival} and {name} agree"])
        rivals.append((name, other))
        told.append(f"{name} gives other outputs than {runner} ({differs})")
    raise RequestError(f"no other runtime here gives a reference that can be trusted: {'; '.join(told)}")


def _ran(referee: Referee, name: str, calls: dict[int, list[str]], root: Path) -> Answers:
    """Run the calls of each batch size on one runtime."""
    out = root / name
    outcomes = dict(zip(calls, referee.run(name, [*calls.values()], out), strict=True))
    sizes = {size for size, outcome in outcomes.items() if usable(outcome)}
    lost: dict[str, list[str]] = {}
    for size, outcome in outcomes.items():
        if size not in sizes:
            lost.setdefault(why_not(outcome), []).append(str(size))
    notes = [
        f"batch size {', '.join(left)} is left out: {name}, a reference, says: {why}" for why, left in lost.items()
    ]
    return Answers(out, sizes, notes)


def _differs(one: Answers, other: Answers, calls: dict[int, list[str]], limits: dict[str, Any]) -> str:
    """Say how two runtimes' outputs differ beyond the limits; "" where they do not."""
    names = [Path(file).name for size, files in calls.items() if size in one.sizes & other.sizes for file in files]
    held = hold(((read_arrays(one.folder / name), read_arrays(other.folder / name)) for name in names), limits)
    return held.wrong if names else "they run no batch size in common"
