"""The columns of the comparison: one table of name, unit, heading, one plain sentence each, and how it is read off a row."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from efflab.foundation.errors import RequestError, nearest
from efflab.foundation.metrics import METRICS
from efflab.statistics import Interval

if TYPE_CHECKING:
    from efflab.comparison.row import AxisShift, Row

Read = Callable[["Row"], Any]
ENDS = ("lower end of its 95 % interval", "upper end of its 95 % interval")


class Column(NamedTuple):
    """A column of a row; `kind` is its unit, and says how its values are shown to people.

    "quality" is a fraction where the task's metric is a share, else in the metric's own unit.
    """

    kind: str
    sentence: str
    read: Read
    heading: str = ""  # in tables for people, where it is not the name; its first word is another name of the column


class Axis(NamedTuple):
    """A kind of compute against which error is held: the column that measures it, and what people call it."""

    column: str
    words: str
    of: Callable[[Row], float | None]  # the value of that column


AXES = {
    "macs": Axis("macs", "MACs", lambda row: row.work.macs),
    "bits": Axis("bit_operations", "bit-operations", lambda row: row.work.bit_operations),
    "latency": Axis("latency_ms_p50", "measured time", lambda row: _known(row.time.call_ms.value)),
    "energy": Axis("energy_j", "energy", lambda row: row.time.energy_j),
    "bytes": Axis("artefact_bytes", "bytes on disk", lambda row: row.work.artefact_bytes),
    "memory": Axis("peak_memory_bytes", "peak memory", lambda row: row.time.peak_memory_bytes),
}
USUAL_AXES = ("macs", "latency")  # the others are worked out where they are asked for


def _measured(kind: str, metric: str, read: Read, heading: str = "") -> Column:
    """Return the column of a quantity that efflab.foundation.metrics defines."""
    return Column(kind, METRICS[metric].sentence, read, heading)


def _with_ends(
    name: str, column: Column, of: Callable[[Row], Interval], low: str = ENDS[0], high: str = ENDS[1]
) -> dict[str, Column]:
    """Return the columns of a value and of both ends of its interval; an end is empty where there is none."""
    return {
        name: column._replace(read=lambda row: _known(of(row).value)),
        f"{name}_low": Column(column.kind, low, lambda row: _known(of(row).low)),
        f"{name}_high": Column(column.kind, high, lambda row: _known(of(row).high)),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _none(_: Row) -> None:
    return None


def _shift_columns(axis: str, words: str) -> dict[str, Column]:
    """Return the columns of the shift on one axis."""
    name = f"shift_{axis}"

    def told(kind: str, sentence: str, read: Callable[[AxisShift], Any]) -> Column:
        return Column(kind, sentence, lambda row: read(row.shift(axis)))

    shift = Column(
        "ratio", f"the technique's shift M in {words}: saving x (error / baseline's)**-power", _none,
        "shift, time [95 %]" if axis == "latency" else "",
    )  # fmt: skip
    beyond = Column("ratio", f"M in {words} against the baseline trained on as long, of rows that train", _none)
    total = Column("ratio", f"{words} of a dense model with this error over this row's, both merits", _none)
    gain = Column("points", f"points of error less than the law gives at equal {words}", _none)
    wide = f"{ENDS[0]}, which holds the scatter of dense models"
    return {
        **_with_ends(name, shift, lambda row: row.shift(axis).shift),
        **_with_ends(f"{name}_beyond_training", beyond, lambda row: row.shift(axis).beyond),
        **_with_ends(f"{name}_total", total, lambda row: row.shift(axis).total, wide),
        f"{name}_of_baseline": told(
            "ratio", "the baseline's own part of the total, no merit of the technique", lambda one: one.of_baseline
        ),
        f"{name}_stair": told(
            "ratio", "the total with the cheapest dense member that is as good, no law fitted", lambda one: one.stair
        ),
        f"{name}_over": told(
            "ratio", "no dense member is that good: the total on the staircase is more than this", lambda one: one.over
        ),
        **_with_ends(f"{name}_gain", gain, lambda row: row.shift(axis).gain),
        f"{name}_dominates": told(
            "share", "probability of being no worse and no dearer than the baseline, one truly", lambda one: one.dominates
        ),
        f"{name}_flags": told(
            "word", "what makes the number weak, or not measurable",
            lambda one: None if one.flags is None else "; ".join(map(str, one.flags)),
        ),
    }  # fmt: skip


COLUMNS: dict[str, Column] = {
    "study": Column("word", "the study that the row comes from", lambda row: row.study),
    "variant": Column("word", "name in the recipe, or the card of a dense model", lambda row: row.variant),
    "role": Column(
        "word", "baseline, repeat (the A/A row), variant, control, or dense (another family member)", lambda row: row.role
    ),
    "steps": Column("word", "techniques from the baseline on", lambda row: " + ".join(row.steps)),
    "baseline": Column("word", "card of the dense model that the variant started from", lambda row: row.baseline),
    "of": Column("word", "card of the dense model that the row is compared with", lambda row: row.of),
    "family": Column("word", "dense family of the baseline", lambda row: row.family),
    "task": Column("word", "data and metric", lambda row: row.place.task.name),
    "backend": Column("word", "what ran the artefact", lambda row: row.place.backend),
    "device": Column("word", "where it ran", lambda row: row.place.device),
    "batch_size": Column("count", "examples in one call", lambda row: row.place.batch_size or "all", "batch"),
    "machine": Column(
        "word", "fingerprint of the machine; rows of two machines are never compared", lambda row: row.place.machine
    ),
    "status": Column("word", "ok, failed or unavailable", lambda row: row.status),
    "reason": Column("word", "why it failed, or is unavailable", lambda row: row.reason),
    "n_seeds": Column("count", "seeds behind the row", lambda row: row.n_seeds),
    "macs": _measured("si", "macs", lambda row: row.work.macs),
    "effective_macs": _measured("si", "effective_macs", lambda row: row.work.effective_macs),
    "bit_operations": _measured("si", "bit_operations", lambda row: row.work.bit_operations),
    "params": _measured("si", "params", lambda row: row.work.params),
    "nonzero_params": _measured("si", "nonzero_params", lambda row: row.work.nonzero_params),
    "artefact_bytes": _measured("bytes", "artefact_bytes", lambda row: row.work.artefact_bytes),
    "coverage": Column(
        "share", "share of compute-bearing operators whose MACs could be counted", lambda row: row.work.coverage
    ),
    "metric": Column("word", "what quality means", lambda row: row.quality.metric),
    "quality": _measured("quality", "quality", lambda row: row.quality.value),
    **_with_ends(
        "quality_difference",
        Column("points", "quality minus the baseline's, in points (hundredths)", _none, "points [95 %]"),
        lambda row: row.against.difference,
        "lower end of its 95 % interval, over seeds and examples",
    ),
    **_with_ends(
        "quality_beyond_training",
        Column("points", "quality minus that of the baseline trained on as long, in points, of rows that train", _none),
        lambda row: row.against.beyond_training,
    ),
    "quality_verdict": Column(
        "word", "what that interval shows against the margin", lambda row: row.against.quality_verdict
    ),
    "margin": Column(
        "points", "non-inferiority margin in points: the recipe's share of the baseline's quality",
        lambda row: row.against.margin,
    ),
    "promised": Column("quality", "quality that the card of a dense model promises", lambda row: row.quality.promised),
    "promise": Column(
        "word", "kept, or broken where a seed's quality lies beyond the card's tolerance", lambda row: row.quality.promise
    ),
    **_with_ends("error", _measured("quality", "error", _none), lambda row: row.quality.error),
    **_with_ends(
        "latency_ms_p50", _measured("ms", "latency_ms_p50", _none, "ms"), lambda row: row.time.call_ms,
        "lower end of its 95 % interval, over starts",
    ),
    "latency_ms_iqr": Column("ms", "distance between the quartiles of the times", lambda row: row.time.iqr_ms),
    "latency_ms_p90": _measured("guarded", "latency_ms_p90", lambda row: row.time.p90_ms),
    "latency_ms_p95": _measured("guarded", "latency_ms_p95", lambda row: row.time.p95_ms),
    "latency_ms_p99": _measured("guarded", "latency_ms_p99", lambda row: row.time.p99_ms),
    "latency_n": Column("count", "timed calls", lambda row: row.time.calls),
    "starts": Column("count", "processes in which it was timed, one after the other", lambda row: row.time.starts),
    "inputs": Column(
        "count", "different batches that the calls went over; ms is then the mean of each one's median",
        lambda row: row.time.inputs,
    ),
    "throughput_per_s": _measured("si", "throughput_per_s", lambda row: row.time.throughput_per_s),
    "peak_memory_bytes": _measured("bytes", "peak_memory_bytes", lambda row: row.time.peak_memory_bytes),
    "prepare_s": _measured("seconds", "prepare_s", lambda row: row.time.prepare_s),
    "energy_j": _measured("number", "energy_j", lambda row: row.time.energy_j),
    "energy_method": Column("word", "how the energy was measured or estimated", lambda row: row.time.energy_method),
    "quiet": Column("word", "whether the machine was quiet while it was timed", lambda row: row.time.quiet),
    "threads": Column("count", "processor threads of the session", lambda row: row.time.threads),
    **_with_ends(
        "speedup",
        Column("ratio", "baseline's time over this one, both as in ms, same backend, batch, machine and group", _none,
               "speed-up [95 %]"),
        lambda row: row.against.speedup, "lower end of its 95 % interval, over paired starts",
    ),
    "speed_verdict": Column(
        "word", "faster, slower, no difference, undecided, or control failed", lambda row: row.against.speed_verdict
    ),
    "noise_floor": Column(
        "share", "how far the A/A row of the group lies from a ratio of 1", lambda row: row.against.noise_floor
    ),
    "theoretical_speedup": Column(
        "ratio", "baseline's MACs over this one's; int8 leaves MACs equal", lambda row: row.against.theory, "theory"
    ),
    "theoretical_speedup_effective": Column(
        "ratio", "baseline's effective MACs over this one's", lambda row: row.against.theory_effective
    ),
    "theoretical_speedup_bits": Column(
        "ratio", "baseline's bit-operations over this one's", lambda row: row.against.theory_bits
    ),
    "size_ratio": Column("ratio", "baseline's bytes on disk over this one's", lambda row: row.against.size_ratio),
    "realisation": Column(
        "number", "speedup / theoretical_speedup: the share of the saved MACs seen on the clock",
        lambda row: row.against.realisation, "realised",
    ),
    **{name: column for axis, one in AXES.items() for name, column in _shift_columns(axis, one.words).items()},
    "beaten_by": Column(
        "word", "dense model with surely less error and surely less time here: what to take instead",
        lambda row: row.against.beaten_by,
    ),
    "pareto": Column(
        "word", "no row of the same task, backend, batch and machine beats it in error and latency", lambda row: row.pareto
    ),
    "recovery_macs": Column("si", "training work of the steps, in MACs", lambda row: row.cost.recovery_macs),
    "recovery_s": Column("seconds", "time of the steps", lambda row: row.cost.recovery_s),
    "training_macs": Column("si", "training work of the dense model, in MACs", lambda row: row.cost.training_macs),
    "break_even": Column(
        "si", "inferences after which the MACs saved have paid for recovery_macs", lambda row: row.cost.break_even
    ),
    "break_even_words": Column("word", "the same in words", lambda row: row.cost.break_even_words),
    "break_even_time": Column(
        "si", "inferences after which the time saved has paid for recovery_s", lambda row: row.cost.break_even_time
    ),
}  # fmt: skip
ALIASES = {
    column.heading.replace(",", "").split()[0] + end: name + end
    for name, column in COLUMNS.items()
    for end in ("", "_low", "_high")
    if column.heading and name + end in COLUMNS
}
# the words that a column can hold at all, whatever a study holds
WORDS = {
    "role": ("baseline", "repeat", "variant", "control", "dense"),
    "status": ("ok", "failed", "unavailable"),
    "speed_verdict": ("faster", "slower", "no difference", "undecided", "control failed"),
    "quality_verdict": ("better", "worse", "within margin", "no difference", "undecided"),
    "promise": ("kept", "broken"),
}
YES_OR_NO = ("quiet", "pareto")
# columns that compare times, which mean nothing where the control of a group failed
OF_SPEED = {
    name
    for name in COLUMNS
    if name.startswith(("speedup", "speed_verdict", "shift_latency"))
    or name in ("realisation", "beaten_by", "break_even_time", "pareto")
}


def heading(name: str) -> str:
    """Return what tables for people call a column."""
    return COLUMNS[name].heading or name


def column_of(word: str, where: str = "", also: Iterable[str] = ()) -> str:
    """Return the column that a name or a heading's first word means; raise RequestError, which lists all, for no column."""
    name = ALIASES.get(word, word)
    if name not in COLUMNS and name not in also:
        guess = nearest(word, [*COLUMNS, *ALIASES, *also]).partition("known: ")[0]
        listed = known(word, [one for one in (*COLUMNS, *ALIASES, *also) if not one.startswith("shift_")])
        ends = ", ".join(one.removeprefix("shift_macs") for one in COLUMNS if one.startswith("shift_macs_"))
        shifts = f"shift_AXIS, alone or with {ends}; AXIS is one of {', '.join(AXES)}"
        raise RequestError(
            f"unknown column {word!r}{where}; {guess}known: {listed.partition('known: ')[2]}\n  {_wrapped(shifts)}"
        )
    return name


def known(word: str, choices: Iterable[str]) -> str:
    """Return `nearest` with its list of choices wrapped to lines."""
    guess, colon, names = nearest(word, choices).partition("known: ")
    lines = _wrapped(names)
    return guess + colon + ("\n  " if "\n" in lines else "") + lines


def _wrapped(text: str) -> str:
    return "\n  ".join(textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False))
