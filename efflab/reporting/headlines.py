"""Says in sentences what the rows show, each number with its interval, and plainly where a technique does not help."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from efflab.comparison.dominance import inversions, place_of
from efflab.comparison.shifts import NOT_MEASURABLE, NOT_MONOTONIC
from efflab.records.variant_name import variant_name
from efflab.reporting.footer import uneven
from efflab.reporting.table import difference, ratio, show

Row = dict[str, Any]
ANOTHER_ANSWER = 1.0  # points between the nearest ends of two intervals
SAVED = 1.1  # the least saving of MACs of which the share seen on the clock is told: of less, noise tells as much
KEPT = ("better", "no difference", "within margin")


def headlines(rows: list[Row]) -> list[str]:
    """Return sentences computed from the rows, the most telling first."""
    variants = [row for row in rows if row["role"] == "variant" and row["speedup"] is not None]
    first = [sentence for sentence in (_best(variants), *_shifts(variants), _overtaken(variants)) if sentence]
    sentences = (
        first
        + _two_answers([row for row in rows if row["role"] == "variant"])
        + _beaten(rows)
        + _controls(rows)
        + _uneven(rows)
        + _theory(variants)
        + _useless(variants)
    )
    lost = [row for row in rows if row["status"] != "ok"]
    if lost:
        places: dict[str, list[str]] = {}
        for row in lost:
            batches = places.setdefault(f"{row['variant']} on {row['backend']}", [])
            if row["status"] != "unavailable":  # that is so at every batch size
                batches.append(str(row["batch_size"]))
        names = [f"{name}{' batch ' * bool(batches)}{' and '.join(batches)}" for name, batches in places.items()]
        more = f"; and {len(names) - 4} more" if len(names) > 4 else ""
        sentences.append(f"Not measured: {'; '.join(names[:4])}{more}. The reasons stand under the table.")
    return sentences or ["No variant could be compared with its baseline in this study."]


def best_of(rows: list[Row]) -> Row | None:
    """Return the variant with the surest speed-up whose quality is kept and that no dense model beats, if any."""
    held = [
        row
        for row in rows
        if row["role"] == "variant" and row["speed_verdict"] == "faster" and row["quality_verdict"] in KEPT
    ]
    return max((row for row in held if not row["beaten_by"]), key=lambda row: float(row["speedup_low"]), default=None)


def shifted_most(rows: list[Row], axis: str) -> Row | None:
    """Return the variant with the largest shift on an axis whose interval lies above 1, if any."""
    name = f"shift_{axis}"
    ahead = [
        row
        for row in rows
        if row["role"] == "variant"
        and row[name] is not None
        and row[f"{name}_low"] > 1
        and NOT_MONOTONIC not in (row[f"{name}_flags"] or "")
    ]
    return max(ahead, key=lambda row: float(row[name]), default=None)


def _place(row: Row) -> str:
    return f"{row['variant']} on {row['backend']}, batch {row['batch_size']}"


def _quality(row: Row) -> str:
    if row["quality_difference"] is None:
        return "quality not compared"
    return f"{difference(row)} points, {row['quality_verdict'] or 'no interval'}"


def _best(variants: list[Row]) -> str:
    row = best_of(variants)
    if row:
        return f"Fastest with its quality kept: {_place(row)}: {ratio(row, 'speedup')} faster ({_quality(row)})."
    beaten = any(row["speed_verdict"] == "faster" and row["quality_verdict"] in KEPT for row in variants)
    what = "that no dense model beats is" if beaten else "is"
    return f"No variant {what} faster than its baseline with its quality kept." if variants else ""


def _overtaken(variants: list[Row]) -> str:
    faster = [row for row in variants if row["speed_verdict"] == "faster"]
    if not faster:
        return "No variant is faster than its baseline beyond the noise."
    row = max(faster, key=lambda row: float(row["speedup_low"]))
    if row["quality_verdict"] in KEPT:
        return ""
    return f"Fastest of all, by the lower end: {_place(row)}: {ratio(row, 'speedup')} faster ({_quality(row)})."


def _two_answers(variants: list[Row]) -> list[str]:
    """Name variants of which runtimes give different quality: intervals on two backends lie a point or more apart."""
    sentences = []
    for name in dict.fromkeys(row["variant"] for row in variants):
        judged = [row for row in variants if row["variant"] == name and row["quality_difference_low"] is not None]
        if not judged:
            continue
        best = max(judged, key=lambda row: float(row["quality_difference_low"]))
        worst = min(judged, key=lambda row: float(row["quality_difference_high"]))
        if best["quality_difference_low"] - worst["quality_difference_high"] >= ANOTHER_ANSWER:
            sentences.append(
                f"Runtimes disagree on {name}: {difference(worst)} points on {worst['backend']}, "
                f"{difference(best)} on {best['backend']}; a model file alone does not settle its quality."
            )
    return sentences


def _beaten(rows: list[Row]) -> list[str]:
    """Say where a dense model is better and faster than a variant called faster, or than the baseline itself."""
    worth = [
        row for row in rows if row["beaten_by"] and (row["role"] == "baseline" or row["speed_verdict"] == "faster")
    ]
    sentences = []
    for place in dict.fromkeys((row["backend"], row["batch_size"], row["machine"]) for row in worth):
        here = [row for row in rows if (row["backend"], row["batch_size"], row["machine"]) == place]
        losers = [row for row in here if row in worth and row["role"] in ("baseline", "variant")]
        winners = []
        for name in dict.fromkeys(row["beaten_by"] for row in losers):
            winner = next(row for row in here if row["variant"] == name and row["role"] in ("dense", "baseline"))
            names = [
                f"{_as_measured(row) if row['role'] == 'baseline' else row['variant']}"
                for row in losers
                if row["beaten_by"] == name
            ]
            winners.append(f"{_as_measured(winner)} beats {', '.join(names)}")
        if winners:
            sentences.append(
                f"A plain dense model is better and faster, on {place[0]}, batch {place[1]}: {'; '.join(winners)}."
            )
    return sentences


def _as_measured(row: Row) -> str:
    baseline = "the baseline " if row["role"] == "baseline" else ""
    return f"{baseline}{row['variant']} ({show(row, 'quality')}, {show(row, 'latency_ms_p50')} ms)"


def _shifts(variants: list[Row]) -> list[str]:
    given = [row for row in variants if row["shift_latency"] is not None]
    vague = [row for row in variants if NOT_MEASURABLE in (row["shift_latency_flags"] or "")]
    if not given and not vague:
        return [
            "No shift of the frontier can be given: the study has no dense family that was timed beside the variants."
        ]
    # a family whose larger members are faster has no steady time for an error
    judged = [row for row in given if NOT_MONOTONIC not in (row["shift_latency_flags"] or "")]
    vague += [row for row in given if row not in judged]
    sentences = []
    ahead = [row for row in judged if row["shift_latency_low"] > 1]
    top = shifted_most(judged, "latency")
    behind = [row for row in judged if row["shift_latency_high"] < 1]
    if top:
        weak = f" ({top['shift_latency_flags']})" if top["shift_latency_flags"] else ""
        sentences.append(
            f"Largest certain shift of the frontier in measured time: {_place(top)}: M = {ratio(top, 'shift_latency')}{weak}, "
            f"worth as much as that many times the compute; {_total(top)}."
        )
    else:
        sentences.append("No shift of the frontier in measured time is certain: no 95 % interval lies above 1.")
    if behind:
        names = "; ".join(f"{_place(row)} ({ratio(row, 'shift_latency')})" for row in behind[:3])
        more = f"; and {len(behind) - 3} more" if len(behind) > 3 else ""
        sentences.append(f"Does not help, moving along the law of the dense family gives more: {names}{more}.")
    unclear = len(judged) - len(behind) - len(ahead)
    if unclear:
        sentences.append(f"{unclear} of {len(judged)} rows cannot be told from moving along that law in measured time.")
    if vague:
        counts = Counter(f"{row['backend']} batch {row['batch_size']}" for row in vague)
        places = ", ".join(f"{count} on {where}" for where, count in counts.items())
        sentences.append(
            f"{len(vague)} of {len(vague) + len(judged)} rows are not judged against the family ({places}): the interval spans "
            "more than a factor of 100, the law's slope is not significant, or the family's times are not monotonic in MACs."
        )
    return sentences


def _total(row: Row) -> str:
    whole = ratio(row, "shift_latency_total")
    return (
        f"a dense model of the same error takes {whole} its time"
        if whole
        else "dense models scatter too much to say more"
    )


def _controls(rows: list[Row]) -> list[str]:
    """Compare the claim in measured time that has a random control with that control, at the same place."""
    pairs = []
    for control in (row for row in rows if row["role"] == "control" and row["shift_latency"] is not None):
        for row in rows:
            same = row["role"] == "variant" and row["variant"] == variant_name(control["variant"]).claim
            steady = NOT_MONOTONIC not in (row["shift_latency_flags"] or "")
            if same and place_of(row) == place_of(control) and row["shift_latency"] is not None and steady:
                pairs.append((row, control))
    if not pairs:
        return []
    apart = sum(row["shift_latency_low"] > control["shift_latency_high"] for row, control in pairs)
    row, control = max(pairs, key=lambda pair: float(pair[0]["shift_latency"]))
    return [
        f"Control, shift in measured time: in {apart} of {len(pairs)} pairs the choice is surely better than a random one; for "
        f"instance {_place(row)} has {ratio(row, 'shift_latency')}, with a random choice {ratio(control, 'shift_latency')}; "
        f"their quality: {difference(row)} points, random {difference(control)}."
    ]


def _uneven(rows: list[Row]) -> list[str]:
    pairs = inversions(rows)
    told = "; ".join(f"on {place}" for place in map(uneven, pairs))
    return [f"More MACs are not always more time in the dense family: {told}."] if pairs else []


def _theory(variants: list[Row]) -> list[str]:
    saved = sorted(
        (row for row in variants if (row["theoretical_speedup"] or 0) >= SAVED and _same_precision(row)),
        key=lambda row: float(row["realisation"]),
    )
    if not saved:
        return []
    middle = saved[len(saved) // 2]["realisation"]
    least, most = saved[0], saved[-1]
    return [
        f"Theory against the clock: of the MACs saved at equal precision, rows that save {SAVED:g}x or more realise "
        f"{least['realisation']:.2f} ({_place(least)}) to {most['realisation']:.2f} ({_place(most)}), "
        f"{middle:.2f} in the middle; 1 would be all."
    ]


def _same_precision(row: Row) -> bool:
    """Whether a row's bit-operations fell as its MACs did, so that none of its speed-up comes from fewer bits."""
    return math.isclose(row["theoretical_speedup_bits"] or 0.0, row["theoretical_speedup"], rel_tol=0.01)


def _useless(variants: list[Row]) -> list[str]:
    told = []
    for what, verdicts in (
        ("Not faster than the baseline", ("slower", "no difference")),
        ("Timed too roughly to say whether faster or slower", ("undecided",)),
    ):
        some = [row for row in variants if row["speed_verdict"] in verdicts]
        names = "; ".join(f"{_place(row)} ({ratio(row, 'speedup')}, {row['speed_verdict']})" for row in some[:3])
        more = f"; and {len(some) - 3} more" if len(some) > 3 else ""
        told += [f"{what}: {names}{more}."] if some else []
    return told


def noise_sentence(rows: list[Row]) -> str:
    """Return the widest noise floor in one sentence."""
    repeats = [row for row in rows if row["role"] == "repeat" and row["speedup"] is not None]
    if not repeats:
        return "Noise floor: no A/A row was timed."
    worst = max(repeats, key=lambda row: abs(float(row["speedup"]) - 1))
    return (
        f"Noise floor: the same model timed twice differs at most by {ratio(worst, 'speedup')} "
        f"({worst['backend']}, batch {worst['batch_size']}; {worst['speed_verdict']})."
    )
