"""Prepares the user's own models: inputs that a reference runs, and its outputs, before any other work is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.foundation.errors import Problem, RequestError
from efflab.validation.backends.numbers import numbers_of
from efflab.validation.backends.own import made_up
from efflab.validation.backends.own.file import OwnFile, place, place_for_references
from efflab.validation.backends.own.input_ranges import Facts, facts_of, without_weights
from efflab.validation.backends.own.reference import Referee, answers, runtimes, usable, why_not
from efflab.validation.backends.pool import Opening
from efflab.validation.backends.suites.models import BATCHES, QUICK_BATCHES, limits_of
from efflab.validation.backends.suites.speed import BATCHES as TIMED
from efflab.validation.record import OwnRow
from efflab.validation.zoo import ZooModel

LEAST_ROWS = 8  # of a batch size: as many calls as give them
PROBES = (3, 1, 4)  # batch sizes at which inputs are tried


class Making(NamedTuple):
    """A model on its way: its file, its graph without weights, its inputs, and who tries them."""

    own: OwnFile
    light: Any
    given: list[made_up.Given]
    referee: Referee
    free: bool  # whether it has a free axis that is the batch

    def facts(self, batch: int, attempt: made_up.InputAttempt) -> tuple[dict[str, tuple[int, ...]], Facts]:
        """Return the shapes of all inputs, and what is known of the graph with them."""
        shapes = made_up.shapes_of(self.given, batch, attempt.length)
        return shapes, facts_of(self.light, shapes)


def prepare_own(
    opening: Opening, files: Sequence[OwnFile], suites: Sequence[str], quick: bool, root: Path
) -> list[tuple[ZooModel, OwnRow]]:
    """Return each of the user's models with calls for it and what is to be told of it.

    Raises RequestError, with the reasons, for models that no reference runs: nothing could be said of them.
    """
    found: list[tuple[ZooModel, OwnRow]] = []
    problems: list[Problem] = []
    for own in files:
        try:
            found.append(_prepare(opening, own, suites, quick, root / "own"))
        except RequestError as error:
            problems += error.at(str(own.path)).problems
    if problems:
        raise RequestError(problems)
    return found


def _prepare(opening: Opening, own: OwnFile, suites: Sequence[str], quick: bool, root: Path) -> tuple[ZooModel, OwnRow]:
    folder = root / own.name
    place(own, folder)
    light = without_weights(own.model, folder)
    given = made_up.given_of(own.model, light)
    referee = Referee(Artefact(place_for_references(own, folder), "onnx"), runtimes(opening.threads), opening.backend)
    if not referee.openings:
        raise RequestError("no runtime here can try it: install onnxruntime or openvino")
    making = Making(own, light, given, referee, bool(made_up.batch_axes(given)))
    runner, attempt = _tried(making, root / f"{own.name}.tries")
    sizes = _sizes(suites, quick) if making.free else [_first_size(given)]
    calls = {size: _write(making, size, attempt, root / f"{own.name}.calls") for size in sizes}
    numbers = numbers_of(own.model, making.facts(sizes[0], attempt)[1])
    told = answers(referee, runner, calls, limits_of(numbers), root / f"{own.name}.references", "models" in suites)
    calls = {size: files for size, files in calls.items() if size in told.sizes}
    shapes, facts = making.facts(max(calls), attempt)
    row: OwnRow = {
        "model": own.name, "file": str(own.path), "data": [*own.data], "numbers": numbers, "batches": sorted(calls),
        "inputs": [
            {"name": one.name, "dtype": str(one.dtype), "shape": made_up.shape_words(one),
             "values": made_up.values_of(one, facts, attempt).words}
            for one in given
        ],
        "notes": [*_size_notes(making, shapes), *told.notes],
    }  # fmt: skip
    model = ZooModel(
        own.name, numbers, {"onnx": str(folder)}, calls[max(calls)][0], None if making.free else max(calls), own=True,
        calls=calls, references=str(told.folder),
    )  # fmt: skip
    return model, row


def _sizes(suites: Sequence[str], quick: bool) -> list[int]:
    asked = QUICK_BATCHES if quick else BATCHES
    wanted = {size for sizes in asked for size in sizes} if "models" in suites else set()
    return sorted(wanted | ({*TIMED} if "speed" in suites else set())) or [LEAST_ROWS]


def _first_size(given: Sequence[made_up.Given]) -> int:
    return next((size for one in given for size in one.dims[:1] if isinstance(size, int)), 1)


def _write(making: Making, size: int, attempt: made_up.InputAttempt, folder: Path, rows: int = LEAST_ROWS) -> list[str]:
    """Write the calls of a batch size, as many as give so many rows, and return their files."""
    shapes, facts = making.facts(size, attempt)
    filled = {one.name: made_up.values_of(one, facts, attempt) for one in making.given}
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(max(1, -(-rows // max(1, size)))):
        files.append(str(folder / f"{size}.{number}.npz"))
        np.savez(files[-1], *made_up.draw(making.given, shapes, filled, attempt, (size, number)))
    return files


def _tried(making: Making, folder: Path) -> tuple[str, made_up.InputAttempt]:
    """Return the first runtime and way to make inputs up that give finite outputs; raise RequestError if none do."""
    first, *others = [
        (batch, attempt)
        for batch in (PROBES if making.free else PROBES[1:2])
        for attempt in made_up.attempts(making.given)
    ]
    reasons = Counter[str]()
    for opening in making.referee.openings:
        halves: list[made_up.InputAttempt] = []  # ways that give finite outputs in part
        for number, part in enumerate(([first], others)):
            calls = [
                _write(making, batch, attempt, folder / f"{number}.{index}", rows=1)
                for index, (batch, attempt) in enumerate(part)
            ]
            outcomes = making.referee.run(opening.backend, calls, folder / "out")
            for (_, attempt), outcome in zip(part, outcomes, strict=True):
                if usable(outcome) and outcome.numbers["finite"] == 1:
                    return opening.backend, attempt
                if usable(outcome):
                    halves.append(attempt)
                else:
                    reasons[f"{opening.backend}: {why_not(outcome)}"] += 1
        if halves:
            return opening.backend, halves[0]
    told = "; ".join(reason for reason, _ in reasons.most_common(2))
    sizes = made_up.lengths_of(making.given)
    lengths = f"; sizes tried for its free axes: {', '.join(map(str, sizes))}" if len(sizes) > 1 else ""
    raise RequestError(f"no reference gives outputs for made-up inputs{lengths} ({told})")


def _size_notes(making: Making, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Say what the free axes that are no batch were set to, and that a fixed model runs as it is."""
    batch = made_up.batch_axes(making.given)
    sizes = {
        size if size != f"{one.name}.{axis}" else f"axis {axis} of {one.name}": shapes[one.name][axis]
        for one in making.given for axis, size in enumerate(one.dims) if isinstance(size, str) and size not in batch
    }  # fmt: skip
    told = [f"free axes: {', '.join(f'{name} = {size}' for name, size in sizes.items())}"] if sizes else []
    return told if making.free else [*told, "its first axes are fixed, so that it runs at one batch size only"]
