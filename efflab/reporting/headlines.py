"""Says in sentences what the rows show, each number with its interval, and plainly where a technique does not help."""

from __future__ import annotations

import math
from collections import Counter

from efflab.comparison.dominance import inversions
from efflab.comparison.row import Row
from efflab.foundation.wording import listed
from efflab.frontier.flags import FlagKind
from efflab.records.quality import SHARE
from efflab.reporting.controls import chance_sentences, control_sentences, training_sentences, where
from efflab.reporting.footer import uneven
from efflab.reporting.table import difference, ratio, show
from efflab.statistics import CONTROL_FAILED, widened

ANOTHER_ANSWER = 1.0  # points between the nearest ends of two intervals
SAVED = 1.1  # the least saving of MACs of which the share seen on the clock is told: of less, noise tells as much
KEPT = ("better", "no difference", "within margin")


def headlines(rows: list[Row]) -> list[str]:
    """Return sentences computed from the rows: the state of the controls, then the most telling ones first."""
    variants = [row for row in rows if row.role == "variant" and row.against.speedup.known]
    first = [sentence for sentence in (_best(variants), *_shifts(variants), _overtaken(variants)) if sentence]
    sentences = (
        control_sentences(rows)
        + first
        + _two_answers([row for row in rows if row.role == "variant"])
        + _beaten(rows)
        + chance_sentences(rows)
        + training_sentences(rows)
        + _uneven(rows)
        + _theory(variants)
        + _useless(variants)
    )
    lost = [row for row in rows if row.status != "ok"]
    if lost:
        places: dict[str, list[str]] = {}
        for row in lost:
            batches = places.setdefault(f"{row.variant} on {row.place.backend}", [])
            if row.status != "unavailable":  # that is so at every batch size
                batches.append(str(row.place.batch_size))
        names = [f"{name}{' batch ' * bool(batches)}{' and '.join(batches)}" for name, batches in places.items()]
        more = f"; and {len(names) - 4} more" if len(names) > 4 else ""
        sentences.append(f"Not measured: {'; '.join(names[:4])}{more}. The reasons stand under the table.")
    return sentences or ["No variant could be compared with its baseline in this study."]


def best_of(rows: list[Row]) -> Row | None:
    """Return the variant with the surest speed-up whose quality is kept and that no dense model beats, if any."""
    held = [
        row
        for row in rows
        if row.role == "variant" and row.against.speed_verdict == "faster" and row.against.quality_verdict in KEPT
    ]
    return max(
        (row for row in held if not row.against.beaten_by), key=lambda row: row.against.surest or 0.0, default=None
    )


def shifted_most(rows: list[Row], axis: str) -> Row | None:
    """Return the variant with the surest shift on an axis, if any: by the lower end that holds for all of them together.

    In time, nothing is claimed where the control of the variant's group failed.
    """
    judged = [
        row
        for row in rows
        if row.role == "variant" and row.shift(axis).judged.known and not row.shift(axis).has(FlagKind.NOT_MONOTONIC)
        if axis != "latency" or row.against.speed_verdict != CONTROL_FAILED
    ]
    ends = [
        (min(widened(one, len(judged)).low for one in (row.shift(axis).shift, row.shift(axis).judged)), row)
        for row in judged
    ]
    return max((one for one in ends if one[0] > 1), key=lambda one: one[0], default=(0.0, None))[1]


def _quality(row: Row) -> str:
    if not row.against.difference.known:
        return "quality not compared"
    return f"{difference(row)} {row.quality.unit}, {row.against.quality_verdict or 'no interval'}"


def _best(variants: list[Row]) -> str:
    row = best_of(variants)
    if row:
        return f"Fastest with its quality kept: {where(row)}: {ratio(row.against.speedup)} faster ({_quality(row)})."
    beaten = any(row.against.speed_verdict == "faster" and row.against.quality_verdict in KEPT for row in variants)
    what = "that no dense model beats is" if beaten else "is"
    if variants and all(row.against.speed_verdict == CONTROL_FAILED for row in variants):
        return "Nothing can be said of any variant's speed: the control of its group failed."
    return f"No variant {what} faster than its baseline with its quality kept." if variants else ""


def _overtaken(variants: list[Row]) -> str:
    faster = [row for row in variants if row.against.speed_verdict == "faster"]
    if not faster:
        believed = any(row.against.speed_verdict != CONTROL_FAILED for row in variants)
        return "No variant is surely faster than its baseline." if believed or not variants else ""
    row = max(faster, key=lambda row: row.against.surest or 0.0)
    if row.against.quality_verdict in KEPT:
        return ""
    return f"Fastest of all, by the lower end: {where(row)}: {ratio(row.against.speedup)} faster ({_quality(row)})."


def _two_answers(variants: list[Row]) -> list[str]:
    """Name variants of which runtimes give different quality: intervals on two backends lie a point or more apart."""
    sentences = []
    by_name: dict[str, list[Row]] = {}
    for row in variants:
        if row.against.difference.bounded:
            by_name.setdefault(row.variant, []).append(row)
    for name, judged in by_name.items():
        best = max(judged, key=lambda row: row.against.difference.low)
        worst = min(judged, key=lambda row: row.against.difference.high)
        if best.against.difference.low - worst.against.difference.high >= _another_answer(best):
            sentences.append(
                f"Runtimes disagree on {name}: {difference(worst)} {worst.quality.unit} on {worst.place.backend}, "
                f"{difference(best)} on {best.place.backend}; a model file alone does not settle its quality."
            )
    return sentences


def _another_answer(row: Row) -> float:
    """Return the difference from which two runtimes disagree: a point of a share, a hundredth of another error."""
    return ANOTHER_ANSWER if row.quality.unit == SHARE else row.quality.error.value / 100


def _beaten(rows: list[Row]) -> list[str]:
    """Say where a dense model is better and faster than a variant called faster, or than the baseline itself."""
    worth = [
        row
        for row in rows
        if row.against.beaten_by and (row.role == "baseline" or row.against.speed_verdict == "faster")
    ]
    sentences = []
    for place in dict.fromkeys(row.place for row in worth):
        here = [row for row in rows if row.place == place]
        losers = [row for row in worth if row.place == place and row.role in ("baseline", "variant")]
        winners = []
        for name in dict.fromkeys(row.against.beaten_by for row in losers):
            winner = next(row for row in here if row.variant == name and row.role in ("dense", "baseline"))
            names = [
                f"{_as_measured(row) if row.role == 'baseline' else row.variant}"
                for row in losers
                if row.against.beaten_by == name
            ]
            winners.append(f"{_as_measured(winner)} beats {listed(names)}")
        if winners:
            sentences.append(f"A plain dense model is better and faster, on {place.words}: {'; '.join(winners)}.")
    return sentences


def _as_measured(row: Row) -> str:
    baseline = "the baseline " if row.role == "baseline" else ""
    return f"{baseline}{row.variant} ({show(row, 'quality')}, {show(row, 'latency_ms_p50')} ms)"


def _shifts(variants: list[Row]) -> list[str]:
    given = [row for row in variants if row.shift("latency").shift.known]
    vague = [row for row in variants if row.shift("latency").has(FlagKind.NOT_MEASURABLE)]
    if not given and not vague:
        return [
            "No shift of the frontier can be given: the study has no dense family that was timed beside the variants."
        ]
    # a family whose larger members are faster has no steady time for an error
    given = [row for row in given if row.against.speed_verdict != CONTROL_FAILED]
    judged = [row for row in given if not row.shift("latency").has(FlagKind.NOT_MONOTONIC)]
    vague += [row for row in given if row.shift("latency").has(FlagKind.NOT_MONOTONIC)]
    sentences = []
    ahead = [row for row in judged if row.shift("latency").shift.low > 1 and row.shift("latency").judged.low > 1]
    top = shifted_most(judged, "latency")
    behind = [row for row in judged if row.shift("latency").shift.high < 1]
    if top:
        found = top.shift("latency")
        weak = f" ({'; '.join(map(str, found.flags))})" if found.flags else ""
        beyond = f", of which {ratio(found.beyond)} is beyond training on as long" if found.beyond.known else ""
        sentences.append(
            f"Largest certain shift of the frontier in measured time: {where(top)}: M = {ratio(found.shift)}{weak}{beyond}, "
            f"worth as much as that many times the compute; {_total(top)}."
        )
    else:
        sentences.append(
            "No shift of the frontier in measured time is certain: no interval that holds for all lies above 1."
        )
    if behind:
        names = "; ".join(f"{where(row)} ({ratio(row.shift('latency').shift)})" for row in behind[:3])
        more = f"; and {len(behind) - 3} more" if len(behind) > 3 else ""
        sentences.append(f"Does not help, moving along the law of the dense family gives more: {names}{more}.")
    unclear = len(judged) - len(behind) - len(ahead)
    if unclear:
        sentences.append(f"{unclear} of {len(judged)} rows cannot be told from moving along that law in measured time.")
    if vague:
        counts = Counter(row.place.briefly for row in vague)
        places = ", ".join(f"{count} on {where}" for where, count in counts.items())
        sentences.append(
            f"{len(vague)} of {len(vague) + len(judged)} rows are not judged against the family ({places}): the interval spans "
            "more than a factor of 100, the law's slope is not significant, or the family's times are not monotonic in MACs."
        )
    return sentences


def _total(row: Row) -> str:
    whole = ratio(row.shift("latency").total)
    return (
        f"a dense model of the same error takes {whole} its time"
        if whole
        else "dense models scatter too much to say more"
    )


def _uneven(rows: list[Row]) -> list[str]:
    pairs = inversions(rows)
    told = "; ".join(f"on {place}" for place in map(uneven, pairs))
    return [f"More MACs are not always more time in the dense family: {told}."] if pairs else []


def _theory(variants: list[Row]) -> list[str]:
    saved = sorted(
        (
            (row.against.realisation, row)
            for row in variants
            if row.against.realisation is not None and (row.against.theory or 0) >= SAVED and _same_precision(row)
        ),
        key=lambda one: one[0],
    )
    if not saved:
        return []
    (low, least), (middle, _), (high, most) = saved[0], saved[len(saved) // 2], saved[-1]
    return [
        f"Theory against the clock: of the MACs saved at equal precision, rows that save {SAVED:g}x or more realise "
        f"{low:.2f} ({where(least)}) to {high:.2f} ({where(most)}), "
        f"{middle:.2f} in the middle; 1 would be all."
    ]


def _same_precision(row: Row) -> bool:
    """Whether a row's bit-operations fell as its MACs did, so that none of its speed-up comes from fewer bits."""
    return math.isclose(row.against.theory_bits or 0.0, row.against.theory or 0.0, rel_tol=0.01)


def _useless(variants: list[Row]) -> list[str]:
    told = []
    for what, verdicts in (
        ("Not faster than the baseline", ("slower", "no difference")),
        ("Timed too roughly to say whether faster or slower", ("undecided",)),
    ):
        some = [row for row in variants if row.against.speed_verdict in verdicts]
        names = "; ".join(
            f"{where(row)} ({ratio(row.against.speedup)}, {row.against.speed_verdict})" for row in some[:3]
        )
        more = f"; and {len(some) - 3} more" if len(some) > 3 else ""
        told += [f"{what}: {names}{more}."] if some else []
    return told


def noise_sentence(rows: list[Row]) -> str:
    """Return the widest noise floor in one sentence."""
    repeats = [row for row in rows if row.role == "repeat" and row.against.speedup.known]
    if not repeats:
        return "Noise floor: no A/A row was timed."
    worst = max(repeats, key=lambda row: abs(row.against.speedup.value - 1))
    return (
        f"Noise floor: the same model timed twice differs at most by {ratio(worst.against.speedup)} "
        f"({worst.place.words}; {worst.against.speed_verdict})."
    )
