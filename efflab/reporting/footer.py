"""Writes the lines under a table: what its words mean, and what is to be known of the rows that it shows."""

from __future__ import annotations

from collections.abc import Sequence

from efflab.comparison.dominance import Inversion, inversions
from efflab.comparison.row import Row
from efflab.foundation.wording import first_of, listed
from efflab.frontier.flags import FlagKind
from efflab.records.quality import SHARE
from efflab.reporting.controls import control_sentences
from efflab.reporting.numbers import digits
from efflab.reporting.table import BEATEN, DEFAULT, OTHER_START, SIGNS, show, starts_elsewhere
from efflab.statistics import SAME_SPEED


def footer(rows: Sequence[Row], everything: Sequence[Row] | None = None, columns: Sequence[str] = DEFAULT) -> list[str]:
    """Return the lines under a table of these rows and columns; `everything` holds the A/A and dense rows left out."""
    everything = rows if everything is None else everything
    lines = []
    if "speedup" in columns:
        lines += control_sentences(everything) + noise_lines(rows, everything) + _loud_lines(rows) + _input_lines(rows)
        lines.append("faster / slower: the 95 % interval of baseline time / own time lies beyond 1, also when corrected for "
                     "the number of verdicts, and the value by 2 %")  # fmt: skip
        lines.append(f"no difference in time: that interval lies within {100 * SAME_SPEED:.0f} % of 1; undecided: none of the "
                     "three; control failed: the same model timed twice differs surely, or by more")  # fmt: skip
        lines += beaten_lines(rows)
    if "quality_difference" in columns:
        lines += _quality_lines(rows)
    if {"theoretical_speedup", "realisation"} & {*columns}:
        lines.append("theory = the baseline's MACs over this row's, no time; realised = speed-up / theory, "
                     "over 1 where int8 helps, which leaves MACs equal")  # fmt: skip
    if "shift_latency" in columns:
        lines += _shift_lines(rows, everything)
    if "variant" in columns:
        lines += _start_lines(rows)
    machines = sorted({row.place.machine for row in rows})
    lines.append(f"machine: {listed(machines)}{' (never compared with each other)' if len(machines) > 1 else ''}")
    return first_of(lines + _promise_lines(rows) + _lost_lines(rows), "rows.csv of a report holds all")


def noise_lines(rows: Sequence[Row], everything: Sequence[Row] | None = None) -> list[str]:
    """Return one line per A/A row at the places of `rows`: what two timings of the same model differ by."""
    places = {row.place for row in rows if row.against.speedup.known}
    found = [
        f"noise floor (A/A), {row.place.briefly}: {show(row, 'speedup')}"
        for row in (rows if everything is None else everything)
        if row.role == "repeat" and row.against.speedup.known and row.place in places
    ]
    return found or ["noise floor: no A/A row was timed"] * bool(places)


def _loud_lines(rows: Sequence[Row]) -> list[str]:
    """Say where the machine was not quiet: intervals hold the noise of these times, but not a drift between their rounds."""
    timed = [row for row in rows if row.time.quiet is not None]
    loud = [row for row in timed if not row.time.quiet]
    where = listed(row.place.briefly for row in loud)
    return [f"timed while others used the machine: {len(loud)} of {len(timed)} rows ({where})"] if loud else []


def _input_lines(rows: Sequence[Row]) -> list[str]:
    """Say where times are means over several inputs, since some model's work depends on them."""
    found = [f"{row.place.briefly} ({row.time.inputs} inputs)" for row in rows if row.time.inputs]
    where = listed(found)
    what = "ms and speed-up are of means over inputs (of each one's median time), as some model's work depends on them"
    return [f"{what}: {where}"] if found else []


def _start_lines(rows: Sequence[Row]) -> list[str]:
    """Say which variants are made of another dense model than the one they are compared with."""
    names: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.of and starts_elsewhere(row):
            names.setdefault((row.baseline, row.of), []).append(row.variant)
    return [
        f"{OTHER_START} other start: made of {card}, and compared with {of}, which is not what its steps alone did: "
        f"{listed(some)}"
        for (card, of), some in names.items()
    ]


def beaten_lines(rows: Sequence[Row]) -> list[str]:
    """Return one line for each place where a dense model is better and faster than rows, naming both."""
    places: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.against.beaten_by:
            place = row.place.briefly
            name = "the baseline" if row.role == "baseline" else row.variant
            places.setdefault(place, {}).setdefault(row.against.beaten_by, []).append(name)
    return [
        f"{BEATEN}: a dense model is surely better and faster, {place}: "
        + "; ".join(f"{dense} than {listed(names)}" for dense, names in winners.items())
        for place, winners in places.items()
    ]


def _quality_lines(rows: Sequence[Row]) -> list[str]:
    if not any(row.against.quality_verdict for row in rows):
        return []
    limits: dict[str, list[float]] = {}
    for row in rows:
        if row.against.margin is not None:
            limits.setdefault(row.quality.unit, []).append(row.against.margin)
    told = [
        f"{' or '.join(dict.fromkeys(f'{one:.3g}' for one in sorted(some)))} {unit}" for unit, some in limits.items()
    ]
    limit = " or ".join(told) or "the margin"
    shares = all(row.quality.unit == SHARE for row in rows)
    what = "the points" if shares else "the difference (above 0: a smaller error)"
    return [
        f"better / worse: the 95 % interval of {what} lies beyond 0; within margin: worse, by less than {limit}",
        f"no difference in {'points' if shares else 'quality'}: that interval holds 0 and excludes a loss of the margin; "
        "undecided: it holds both",
    ]


def _shift_lines(rows: Sequence[Row], everything: Sequence[Row]) -> list[str]:
    told = [row for row in rows if row.role in ("variant", "control", "repeat") and row.status == "ok"]
    shifts = [row.shift("latency") for row in told]
    vague = any(one.has(FlagKind.NOT_MEASURABLE) for one in shifts)
    if not vague and not any(one.shift.known for one in shifts):
        flags = (flag for one in shifts for flag in one.flags or ())
        reasons = dict.fromkeys(flag.detail for flag in flags if flag.kind is FlagKind.NO_SHIFT)
        return [f"no shift: {'; '.join(reasons) or 'no dense family was timed beside these rows'}"] if told else []
    lines = ["shift M = speed-up x (error / the baseline's)**-power of the dense family's law; "
             "below 1, moving along that law gives more"]  # fmt: skip
    if vague:
        lines.append("not measurable: the 95 % interval spans more than a factor of 100, the slope of the "
                     "family's law is not significant, or the family has fewer than 5 members")  # fmt: skip
    shown = [one for one in shifts if one.shift.known]
    used = [f"{sign} {kind.value}" for kind, sign in SIGNS.items() if any(one.has(kind) for one in shown)]
    if used:
        lines.append("signs: " + "; ".join(used))
    places = {row.place for row in rows}
    pairs = [pair for pair in inversions([*everything]) if pair.larger.place in places]
    return lines + [f"more MACs, less time: {uneven(pair)}" for pair in pairs]


def uneven(pair: Inversion) -> str:
    """Say of two dense models at one place that more MACs take less time."""
    larger, smaller = pair
    return (
        f"{larger.place.briefly}, {larger.variant} has "
        f"{(larger.work.macs or 0) / (smaller.work.macs or 1):.3g}x the MACs of {smaller.variant} and takes "
        f"{digits(larger.time.call_ms.value)} ms against {digits(smaller.time.call_ms.value)} ms"
    )


def _promise_lines(rows: Sequence[Row]) -> list[str]:
    promised = [row for row in rows if row.quality.promise]
    broken = [
        f"{row.variant} on {row.place.backend} ({show(row, 'quality')}, promised {show(row, 'promised')})"
        for row in promised
        if row.quality.promise == "broken"
    ]
    if broken:
        return [f"card's promise of quality broken: {listed(broken, '; ')}"]
    return ["quality: every dense model here keeps its card's promise"] if promised else []


def _lost_lines(rows: Sequence[Row]) -> list[str]:
    """Say of each reason which rows it kept from being measured: once, with all batch sizes at which it did."""
    batches: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.reason:
            found = batches.setdefault((f"{row.status} on {row.place.backend}", row.reason, row.variant), [])
            if row.status != "unavailable":  # that is so at every batch size
                found.append(str(row.place.batch_size))
    names: dict[tuple[str, str], list[str]] = {}
    for (place, reason, name), sizes in batches.items():
        where = f"{place}{' batch ' * bool(sizes)}{' and '.join(dict.fromkeys(sizes))}"
        names.setdefault((where, reason), []).append(name)
    return [f"{where}: {listed(some)}: {reason}" for (where, reason), some in names.items()]
