"""Says what the controls of a study tell: whether its speeds can be believed, and what chance or training alone would give."""

from __future__ import annotations

from collections.abc import Sequence

from efflab.comparison.place import Place
from efflab.comparison.row import Row
from efflab.foundation.wording import listed
from efflab.frontier.flags import FlagKind
from efflab.records.variant_name import variant_name
from efflab.reporting.table import difference, ratio
from efflab.statistics import CONTROL_FAILED


def control_sentences(rows: Sequence[Row]) -> list[str]:
    """Return the state of the controls in one sentence or two, then how many verdicts were corrected for; none untimed."""
    timed = [row for row in rows if row.time.call_ms.known]
    if not timed:
        return []
    repeats = [row for row in timed if row.role == "repeat" and row.against.speedup.known]
    failed = [row for row in repeats if row.against.speed_verdict == CONTROL_FAILED]
    places = [f"{row.place.briefly} ({ratio(row.against.speedup)})" for row in failed]
    if failed:
        state = (
            f"Control failed in {len(failed)} of {len(repeats)} groups, where the same model was timed twice and its two times "
            f"surely differ: {listed(places)}. Speeds that were measured there are not to be believed."
        )
    elif repeats:
        state = f"Controls: the same model was timed twice in every group ({len(repeats)}), and no two of its times surely differ."
    else:
        state = "Controls: no model was timed twice, so nothing tells how far equal models differ here."
    told = [state]
    if any(row.time.starts == 1 for row in timed):
        told.append(
            "Each model was timed in one process. The intervals of its speed assume that it would differ by some 4 % in "
            "another one; time it in several (measure.processes) to know."
        )
    return [*told, *verdict_sentences(rows)]


def verdict_sentences(rows: Sequence[Row]) -> list[str]:
    """Say how many verdicts of each kind were made, which each had to be the surer for."""
    speed = sum(row.role != "repeat" and row.against.speed_verdict is not None for row in rows)
    quality = {
        (row.variant, row.role, row.place.without_batch())
        for row in rows
        if row.role != "repeat" and row.against.quality_verdict is not None
    }
    if speed + len(quality) < 2:
        return []
    return [
        f"Verdicts: {speed} on speed and {len(quality)} on quality, corrected (Holm) so that at most one study in twenty "
        "has a false one of a kind."
    ]


def where(row: Row) -> str:
    """Say which model, and at which place."""
    return f"{row.variant} on {row.place.words}"


def chance_sentences(rows: list[Row]) -> list[str]:
    """Compare the claim in measured time that has a random control with that control, at the same place."""
    pairs = []
    steady: dict[tuple[str, str | None, Place], list[Row]] = {}
    for row in rows:
        found = row.shift("latency")
        if row.role == "variant" and found.shift.known and not found.has(FlagKind.NOT_MONOTONIC):
            steady.setdefault((row.variant, row.family, row.place), []).append(row)
    for control in (row for row in rows if row.role == "control" and row.shift("latency").shift.known):
        if variant_name(control.variant).control != "random":
            continue
        claim = (variant_name(control.variant).claim, control.family, control.place)
        pairs += [(row, control) for row in steady.get(claim, [])]
    if not pairs:
        return []
    apart = sum(row.shift("latency").shift.low > control.shift("latency").shift.high for row, control in pairs)
    row, control = max(pairs, key=lambda pair: pair[0].shift("latency").shift.low)
    chosen, random = (ratio(one.shift("latency").shift) for one in (row, control))
    return [
        f"Control, shift in measured time: in {apart} of {len(pairs)} pairs the choice is surely better than a random one; for "
        f"instance {where(row)} has {chosen}, with a random choice {random}; "
        f"their quality: {difference(row)} {row.quality.unit}, random {difference(control)}."
    ]


def training_sentences(rows: list[Row]) -> list[str]:
    """Say how much of the quality of what trains is owed to its training alone, by the first place of each variant."""
    firsts: dict[str, Row] = {}
    for row in rows:
        if row.role == "variant" and row.against.beyond_training.bounded:
            firsts.setdefault(row.variant, row)
    if not firsts:
        return []
    better = sum(row.against.beyond_training.low > 0 for row in firsts.values())
    worse = sum(row.against.beyond_training.high < 0 for row in firsts.values())
    controls = {row.variant: row for row in rows if row.role == "control" and row.variant.endswith("~trained-on")}
    gained = [f"{difference(row)} {row.quality.unit}" for row in controls.values() if row.against.difference.bounded]
    alone = f" Training on alone gives the baseline {listed(gained)}." if gained else ""
    return [
        f"Control, training alone: of {len(firsts)} variants that train, {better} are surely better than the baseline trained "
        f"on as long, and {worse} surely worse.{alone}"
    ]
