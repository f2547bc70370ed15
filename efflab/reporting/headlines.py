"""Says in sentences what the rows show, each number with its interval, and plainly where a technique does not help."""

from __future__ import annotations

from typing import Any

from efflab.reporting.table import decimals, noise_lines, ratio_text

Row = dict[str, Any]


def headlines(rows: list[Row]) -> list[str]:
    """Return sentences computed from the rows, the most telling first."""
    variants = [row for row in rows if row["role"] == "variant" and row["speedup"] is not None]
    sentences = [sentence for sentence in (_best(variants), _overtaken(variants)) if sentence]
    sentences += _shifts(variants) + _controls(rows) + _theory(variants) + _useless(variants)
    lost = [row for row in rows if row["status"] != "ok"]
    if lost:
        names = ", ".join(f"{row['variant']} on {row['backend']}" for row in lost[:4])
        more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
        sentences.append(f"Not measured: {names}{more}; the reasons stand under the table.")
    return sentences or ["No variant could be compared with its baseline in this study."]


def _place(row: Row) -> str:
    return f"{row['variant']} on {row['backend']}, batch {row['batch_size']}"


def _number(row: Row, name: str, unit: str = "x", sign: str = "") -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if low is None:
        return f"{value:{sign}.2f}{unit}"
    if unit == "x":
        return ratio_text(value, low, high)
    places = max(1, decimals(low, high))
    return f"{value:{sign}.{places}f}{unit} [{low:{sign}.{places}f}, {high:{sign}.{places}f}]"


def _quality(row: Row) -> str:
    if row["quality_difference"] is None:
        return "quality not compared"
    return f"{_number(row, 'quality_difference', ' points', '+')}, {row['quality_verdict'] or 'no interval'}"


def _best(variants: list[Row]) -> str:
    kept = ("better", "no difference", "not worse than the margin")
    held = [row for row in variants if row["quality_verdict"] in kept and row["speed_verdict"] == "faster"]
    if not held:
        return (
            "No variant is faster than its baseline without losing more quality than the margin allows."
            if variants
            else ""
        )
    row = max(held, key=lambda row: float(row["speedup_low"]))
    return f"Fastest with its quality kept: {_place(row)}: {_number(row, 'speedup')} faster ({_quality(row)})."


def _overtaken(variants: list[Row]) -> str:
    faster = [row for row in variants if row["speed_verdict"] == "faster"]
    if not faster:
        return "No variant is faster than its baseline beyond the noise."
    row = max(faster, key=lambda row: float(row["speedup_low"]))
    if row["quality_verdict"] in ("better", "no difference", "not worse than the margin"):
        return ""
    return f"Fastest of all: {_place(row)}: {_number(row, 'speedup')} faster ({_quality(row)})."


def _shifts(variants: list[Row]) -> list[str]:
    judged = [row for row in variants if row["shift_latency"] is not None]
    if not judged:
        return [
            "No shift of the frontier can be given: the study has no dense family that was timed beside the variants."
        ]
    sentences = []
    top = max(judged, key=lambda row: float(row["shift_latency_low"]))
    if top["shift_latency_low"] > 1:
        weak = f" ({top['shift_latency_flags']})" if top["shift_latency_flags"] else ""
        sentences.append(
            f"Largest shift of the frontier in measured time: {_place(top)}: a dense model of the same error takes "
            f"{_number(top, 'shift_latency')} its time{weak}."
        )
    behind = [row for row in judged if row["shift_latency_high"] < 1]
    if behind:
        names = "; ".join(f"{_place(row)} ({_number(row, 'shift_latency')})" for row in behind[:3])
        more = f"; and {len(behind) - 3} more" if len(behind) > 3 else ""
        sentences.append(f"Does not help, a smaller dense model of the same error is faster: {names}{more}.")
    unclear = len(judged) - len(behind) - sum(row["shift_latency_low"] > 1 for row in judged)
    if unclear:
        sentences.append(f"{unclear} of {len(judged)} rows cannot be told from a smaller dense model in measured time.")
    return sentences


def _controls(rows: list[Row]) -> list[str]:
    controls = [row for row in rows if row["role"] == "control" and row["shift_macs"] is not None]
    if not controls:
        return []
    row = max(controls, key=lambda row: float(row["shift_macs"]))
    return [
        f"Control: the best of the random choices, {_place(row)}, has a shift on MACs of {_number(row, 'shift_macs')}."
    ]


def _theory(variants: list[Row]) -> list[str]:
    saved = sorted(
        (row for row in variants if (row["theoretical_speedup"] or 0) > 1.1), key=lambda row: row["realisation"]
    )
    if not saved:
        return []
    middle = saved[len(saved) // 2]["realisation"]
    least, most = saved[0], saved[-1]
    return [
        f"Theory against the clock: of the MACs saved at equal precision, rows realise {least['realisation']:.2f} "
        f"({_place(least)}) "
        f"to {most['realisation']:.2f} ({_place(most)}), {middle:.2f} in the middle; 1 would be all."
    ]


def _useless(variants: list[Row]) -> list[str]:
    slow = [row for row in variants if row["speed_verdict"] != "faster"]
    if not slow:
        return []
    names = "; ".join(f"{_place(row)} ({_number(row, 'speedup')}, {row['speed_verdict']})" for row in slow[:3])
    more = f"; and {len(slow) - 3} more" if len(slow) > 3 else ""
    return [f"Not faster than the baseline: {names}{more}."]


def noise_sentence(rows: list[Row]) -> str:
    """Return the widest noise floor in one sentence."""
    repeats = [row for row in rows if row["role"] == "repeat" and row["speedup"] is not None]
    if not repeats:
        return noise_lines(rows)[0]
    worst = max(repeats, key=lambda row: abs(float(row["speedup"]) - 1))
    return (
        f"Noise floor: the same model timed twice differs at most by {_number(worst, 'speedup')} "
        f"({worst['backend']}, batch {worst['batch_size']}; {worst['speed_verdict']})."
    )
