"""What the rows of a study show, in words: every verdict is corrected for how many of its kind the study makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from efflab.comparison.place import Place
from efflab.comparison.row import Cell
from efflab.comparison.speeds import Speedup
from efflab.statistics import (
    CONTROL_FAILED,
    Interval,
    control_fails,
    corrected,
    excludes_one,
    quality_tests,
    quality_verdict,
    speed_tests,
    speed_verdict,
    widened,
)

Controls = dict[tuple[Place, str], list[Interval]]  # speed-ups of the A/A rows of a group at a place


def judge(cells: Sequence[Cell], speedups: Sequence[tuple[Cell, Speedup]]) -> Controls:
    """Fill the verdicts of all rows, study by study; return the controls of each group."""
    controls: Controls = {}
    for cell, speedup in speedups:
        if cell.row.role == "repeat":
            controls.setdefault((cell.row.place, speedup.group), []).append(speedup.interval)
    for study in dict.fromkeys(cell.row.place.study for cell in cells):
        _judge_speeds([one for one in speedups if one[0].row.place.study == study], controls)
        _judge_qualities([cell for cell in cells if cell.row.place.study == study])
    return controls


def _judge_speeds(timed: Sequence[tuple[Cell, Speedup]], controls: Controls) -> None:
    """Fill the verdicts on speed of one study; those on the controls themselves do not count among the many."""
    claims = [one for one in timed if one[0].row.role != "repeat"]
    tests = corrected([speed_tests(speedup.interval, speedup.freedom) for _, speedup in claims])
    for (cell, speedup), one in zip(claims, tests, strict=True):
        held, against = controls.get((cell.row.place, speedup.group), []), cell.row.against
        failed = control_fails(held, speedup.interval)
        against.speed_verdict = CONTROL_FAILED if failed else speed_verdict(speedup.interval, one)
        against.surest = widened(speedup.interval, len(claims), speedup.freedom).low
        if held:
            against.noise_floor = max(math.exp(abs(math.log(one.value))) - 1 for one in held)
    for cell, speedup in timed:
        if cell.row.role == "repeat" and cell.row.against.speed_verdict != CONTROL_FAILED:  # in any of its groups
            failed = excludes_one(speedup.interval)
            cell.row.against.speed_verdict = CONTROL_FAILED if failed else speed_verdict(speedup.interval)
            cell.row.against.speedup = speedup.interval


def _judge_qualities(cells: Sequence[Cell]) -> None:
    """Fill the verdicts on quality of one study; a model's score at several batch sizes is one verdict."""
    claims: dict[Any, list[Cell]] = {}
    for cell in cells:
        if cell.row.against.difference.bounded:
            claims.setdefault((cell.row.variant, cell.row.role, cell.row.place.without_batch()), []).append(cell)
    firsts = [several[0].row for several in claims.values()]
    alone = [quality_tests(one.against.difference, one.against.margin) for one in firsts]
    many = iter(corrected([test for test, row in zip(alone, firsts, strict=True) if row.role != "repeat"]))
    tests = [test if row.role == "repeat" else next(many) for test, row in zip(alone, firsts, strict=True)]
    for several, one in zip(claims.values(), tests, strict=True):
        for cell in several:
            verdict = quality_verdict(cell.row.against.difference, cell.row.against.margin, one)
            cell.row.against.quality_verdict = {"not worse than the margin": "within margin"}.get(verdict, verdict)
