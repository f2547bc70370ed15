"""Checks a study against the rules of Blalock et al., "What is the State of Neural Network Pruning?" (arXiv 2003.03033)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from efflab.foundation.wording import MOST_NAMED, listed
from efflab.records.record import Record
from efflab.reporting.section import Asked, Section

Finding = tuple[bool, str]
ENOUGH_MEMBERS, ENOUGH_POINTS, ENOUGH_SEEDS, ENOUGH_PAIRS = 5, 5, 3, 3


def linter(asked: Asked) -> Section:
    """Return what the study has and lacks of what a comparison of techniques must have."""
    found = [(check.__doc__ or "", *check(asked)) for check in CHECKS]
    kept = sum(holds for _, holds, _ in found)
    return Section(
        "linter", "What this study can bear", sentences=(f"{kept} of {len(found)} rules are kept.",),
        heads=("", "rule", "here"), table=tuple(("kept" if holds else "not kept", rule, told) for rule, holds, told in found),
        notes=("After Blalock et al., arXiv 2003.03033, and this laboratory's own rules.",),
        data=tuple({"rule": rule, "kept": holds, "here": told} for rule, holds, told in found),
    )  # fmt: skip


def _variants(asked: Asked) -> list[Record]:
    return [record for record in asked.study["records"] if record["role"] == "variant"]


def _steps(records: list[Record]) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in records:
        for step in record["steps"]:
            yield from step.items()


def dense_family(asked: Asked) -> Finding:
    """A dense family of at least five members was measured beside the variants."""
    members = {row.variant for row in asked.rows if row.role in ("baseline", "dense") and row.quality.error.known}
    return len(members) >= ENOUGH_MEMBERS, f"{len(members)} members"


def random_control(asked: Asked) -> Finding:
    """Every technique that chooses what to keep stands beside a random choice."""
    choosing = {name for name, settings in _steps(_variants(asked)) if "importance" in settings}
    controlled = {
        name
        for record in asked.study["records"]
        if record["role"] == "control"
        for step in record["steps"]
        for name in step
    }
    lacking = sorted(choosing - controlled)
    return not lacking, f"no control for {', '.join(lacking)}" if lacking else ", ".join(
        sorted(choosing)
    ) or "nothing chooses"


def magnitude_control(asked: Asked) -> Finding:
    """Where something is pruned, pruning by plain magnitude is among the variants."""
    kinds = {str(settings["importance"]) for _, settings in _steps(_variants(asked)) if "importance" in settings}
    return not kinds or bool(kinds & {"l1", "l2"}), ", ".join(sorted(kinds)) or "nothing is pruned"


def operating_points(asked: Asked) -> Finding:
    """At least five operating points: compute levels that variants of the study stand at."""
    levels = {
        (record["work"]["macs"], record["work"]["bit_operations"]) for record in _variants(asked) if "work" in record
    }
    return len(levels) >= ENOUGH_POINTS, f"{len(levels)} levels of MACs and bit-operations"


def both_ratios(asked: Asked) -> Finding:
    """Compression ratio (bytes) and theoretical speed-up (MACs) are both given for every variant."""
    rows = [row for row in asked.rows if row.role == "variant" and row.status == "ok"]
    lacking = {row.variant for row in rows if row.against.size_ratio is None or row.against.theory is None}
    return bool(rows) and not lacking, f"lacking: {listed(sorted(lacking))}" if lacking else f"{len(rows)} rows"


def seeds(asked: Asked) -> Finding:
    """At least three seeds for everything that trains."""
    few = {}
    for row in asked.rows:
        trained = row.role == "variant" and row.cost.recovery_macs
        if trained and row.n_seeds < ENOUGH_SEEDS and row.status == "ok":
            few[row.variant] = row.n_seeds
    dense = [row.n_seeds for row in asked.rows if row.role in ("baseline", "dense") and row.status == "ok"]
    least = min(dense, default=0)
    told = listed((f"{name} has {n}" for name, n in few.items()), "; ") or f"dense members have {least} or more"
    return not few and least >= ENOUGH_SEEDS, told


def pairs(asked: Asked) -> Finding:
    """At least three pairs of data set and architecture."""
    found = {(record["task"], record["baseline"]) for record in _variants(asked)}
    return len(found) >= ENOUGH_PAIRS, listed(sorted(f"{task} / {baseline}" for task, baseline in found)) or "none"


def validation(asked: Asked) -> Finding:
    """Choices were made on validation examples, and the test split was touched for the final score only."""
    foreign = sorted(
        {
            record["variant"]
            for record in asked.study["records"]
            if record["role"] in ("baseline", "dense")
            and not record.get("training", {"training_macs": 0.0})["training_macs"]
        }
    )
    if foreign:
        return False, f"not known of weights that were trained elsewhere: {listed(foreign)}"
    return True, "steps get the training and validation splits only"


def same_twice(asked: Asked) -> Finding:
    """The baseline measured twice (A/A) comes out as no difference everywhere."""
    repeats = [row for row in asked.rows if row.role == "repeat" and row.against.speedup.known]
    odd = [row for row in repeats if row.against.speed_verdict != "no difference"]
    told = ", ".join(row.place.briefly for row in odd[:MOST_NAMED])
    return bool(repeats) and not odd, f"not so: {told}" if odd else f"{len(repeats)} A/A rows"


def all_counted(asked: Asked) -> Finding:
    """Every operator that computes has a formula for its MACs."""
    short: dict[str, float] = {}
    for record in asked.study["records"]:
        if "work" in record and record["work"]["coverage"] < 1:
            short[record["variant"]] = record["work"]["coverage"]
    return not short, json.dumps(short) if short else "all counted"


def quiet(asked: Asked) -> Finding:
    """The machine was quiet while it was timed."""
    loud = sum(row.time.quiet is False for row in asked.rows)
    timed = sum(row.time.quiet is not None for row in asked.rows)
    return timed > 0 and not loud, f"{loud} of {timed} sessions were timed in noise" if timed else "nothing was timed"


CHECKS: tuple[Callable[[Asked], Finding], ...] = (
    dense_family, random_control, magnitude_control, operating_points, both_ratios, seeds, pairs, validation, same_twice,
    all_counted, quiet,
)  # fmt: skip
