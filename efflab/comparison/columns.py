"""The columns of the comparison: one table of name, kind (how a value is shown) and one plain sentence each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from efflab.foundation.errors import RequestError, nearest
from efflab.foundation.metrics import METRICS


class Column(NamedTuple):
    """A column of a row; `kind` says how its values are shown to people."""

    kind: str
    sentence: str


def _measured(kind: str, metric: str) -> Column:
    """Return the column of a quantity that efflab.foundation.metrics defines."""
    return Column(kind, METRICS[metric].sentence)


class Axis(NamedTuple):
    """A kind of compute against which error is held: the column that measures it, and what people call it."""

    column: str
    words: str


AXES = {
    "macs": Axis("macs", "MACs"),
    "bits": Axis("bit_operations", "bit-operations"),
    "latency": Axis("latency_ms_p50", "measured time"),
    "energy": Axis("energy_j", "energy"),
    "bytes": Axis("artefact_bytes", "bytes on disk"),
    "memory": Axis("peak_memory_bytes", "peak memory"),
}
USUAL_AXES = ("macs", "latency")  # the others are worked out where they are asked for


def _shift_columns() -> dict[str, Column]:
    found: dict[str, Column] = {}
    for name, axis in AXES.items():
        shift, ends = f"shift_{name}", ("lower end of its 95 % interval", "upper end of its 95 % interval")
        found |= {
            shift: Column("ratio", f"the technique's shift M in {axis.words}: saving x (error / baseline's)**-power"),
            f"{shift}_low": Column("ratio", ends[0]),
            f"{shift}_high": Column("ratio", ends[1]),
            f"{shift}_total": Column("ratio", f"{axis.words} of a dense model with this error over this row's, both merits"),
            f"{shift}_total_low": Column("ratio", f"{ends[0]}, which holds the scatter of dense models"),
            f"{shift}_total_high": Column("ratio", ends[1]),
            f"{shift}_of_baseline": Column("ratio", "the baseline's own part of the total, no merit of the technique"),
            f"{shift}_stair": Column("ratio", "the total with the cheapest dense member that is as good, no law fitted"),
            f"{shift}_over": Column("ratio", "no dense member is that good: the total on the staircase is more than this"),
            f"{shift}_gain": Column("points", f"points of error less than the law gives at equal {axis.words}"),
            f"{shift}_gain_low": Column("points", ends[0]),
            f"{shift}_gain_high": Column("points", ends[1]),
            f"{shift}_dominates": Column("share", "probability of being no worse and no dearer than the baseline, one truly"),
            f"{shift}_flags": Column("word", "what makes the number weak, or not measurable"),
        }  # fmt: skip
    return found


COLUMNS: dict[str, Column] = {
    "study": Column("word", "the study that the row comes from"),
    "variant": Column("word", "name in the recipe, or the card of a dense model"),
    "role": Column("word", "baseline, repeat (the A/A row), variant, control, or dense (another family member)"),
    "steps": Column("word", "techniques from the baseline on"),
    "baseline": Column("word", "card of the dense model that the variant started from"),
    "of": Column("word", "card of the dense model that the row is compared with"),
    "family": Column("word", "dense family of the baseline"),
    "task": Column("word", "data and metric"),
    "backend": Column("word", "what ran the artefact"),
    "device": Column("word", "where it ran"),
    "batch_size": Column("count", "examples in one call"),
    "machine": Column("word", "fingerprint of the machine; rows of two machines are never compared"),
    "status": Column("word", "ok, failed or unavailable"),
    "reason": Column("word", "why it failed, or is unavailable"),
    "n_seeds": Column("count", "seeds behind the row"),
    "macs": _measured("si", "macs"),
    "effective_macs": _measured("si", "effective_macs"),
    "bit_operations": _measured("si", "bit_operations"),
    "params": _measured("si", "params"),
    "nonzero_params": _measured("si", "nonzero_params"),
    "artefact_bytes": _measured("bytes", "artefact_bytes"),
    "coverage": Column("share", "share of compute-bearing operators whose MACs could be counted"),
    "metric": Column("word", "what quality means"),
    "quality": _measured("share", "quality"),
    "quality_difference": Column("points", "quality minus the baseline's, in points (hundredths)"),
    "quality_difference_low": Column("points", "lower end of its 95 % interval, over seeds and examples"),
    "quality_difference_high": Column("points", "upper end of its 95 % interval"),
    "quality_verdict": Column("word", "what that interval shows against the margin"),
    "margin": Column("points", "non-inferiority margin in points: the recipe's share of the baseline's quality"),
    "promised": Column("share", "quality that the card of a dense model promises"),
    "promise": Column("word", "kept, or broken where a seed's quality lies beyond the card's tolerance"),
    "error": _measured("share", "error"),
    "error_low": Column("share", "lower end of its 95 % interval"),
    "error_high": Column("share", "upper end of its 95 % interval"),
    "latency_ms_p50": _measured("ms", "latency_ms_p50"),
    "latency_ms_p50_low": Column("ms", "lower end of its 95 % interval, over rounds"),
    "latency_ms_p50_high": Column("ms", "upper end of its 95 % interval"),
    "latency_ms_iqr": Column("ms", "distance between the quartiles of the times"),
    "latency_ms_p90": _measured("guarded", "latency_ms_p90"),
    "latency_ms_p95": _measured("guarded", "latency_ms_p95"),
    "latency_ms_p99": _measured("guarded", "latency_ms_p99"),
    "latency_n": Column("count", "timed calls"),
    "inputs": Column("count", "different batches that the calls went over; ms is then the mean of each one's median"),
    "throughput_per_s": _measured("si", "throughput_per_s"),
    "peak_memory_bytes": _measured("bytes", "peak_memory_bytes"),
    "prepare_s": _measured("seconds", "prepare_s"),
    "energy_j": _measured("number", "energy_j"),
    "energy_method": Column("word", "how the energy was measured or estimated"),
    "quiet": Column("word", "whether the machine was quiet while it was timed"),
    "threads": Column("count", "processor threads of the session"),
    "speedup": Column(
        "ratio",
        "baseline's time over this one, both as in ms, same backend, batch, machine and group",
    ),
    "speedup_low": Column("ratio", "lower end of its 95 % interval, over paired rounds"),
    "speedup_high": Column("ratio", "upper end of its 95 % interval"),
    "speed_verdict": Column("word", "faster, slower, no difference or undecided"),
    "noise_floor": Column("share", "how far the A/A row of the group lies from a ratio of 1"),
    "theoretical_speedup": Column("ratio", "baseline's MACs over this one's; int8 leaves MACs equal"),
    "theoretical_speedup_effective": Column("ratio", "baseline's effective MACs over this one's"),
    "theoretical_speedup_bits": Column("ratio", "baseline's bit-operations over this one's"),
    "size_ratio": Column("ratio", "baseline's bytes on disk over this one's"),
    "realisation": Column("number", "speedup / theoretical_speedup: the share of the saved MACs seen on the clock"),
    **_shift_columns(),
    "beaten_by": Column("word", "dense model with surely less error and surely less time here: what to take instead"),
    "pareto": Column("word", "no row of the same task, backend, batch and machine beats it in error and latency"),
    "recovery_macs": Column("si", "training work of the steps, in MACs"),
    "recovery_s": Column("seconds", "time of the steps"),
    "training_macs": Column("si", "training work of the dense model, in MACs"),
    "break_even": Column("si", "inferences after which the MACs saved have paid for recovery_macs"),
    "break_even_words": Column("word", "the same in words"),
    "break_even_time": Column("si", "inferences after which the time saved has paid for recovery_s"),
}

# what tables for people call a column; its first word is another name of the column wherever one is written
HEADINGS = {
    "batch_size": "batch",
    "quality_difference": "points [95 %]",
    "latency_ms_p50": "ms",
    "speedup": "speed-up [95 %]",
    "theoretical_speedup": "theory",
    "realisation": "realised",
    "shift_latency": "shift, time [95 %]",
}
ALIASES = {
    heading.replace(",", "").split()[0] + end: name + end
    for name, heading in HEADINGS.items()
    for end in ("", "_low", "_high")
    if name + end in COLUMNS
}
# the words that a column can hold at all, whatever a study holds
WORDS = {
    "role": ("baseline", "repeat", "variant", "control", "dense"),
    "status": ("ok", "failed", "unavailable"),
    "speed_verdict": ("faster", "slower", "no difference", "undecided"),
    "quality_verdict": ("better", "worse", "within margin", "no difference", "undecided"),
    "promise": ("kept", "broken"),
}
YES_OR_NO = ("quiet", "pareto")


def heading(name: str) -> str:
    """Return what tables for people call a column."""
    return HEADINGS.get(name, name)


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
