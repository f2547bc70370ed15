"""Prints rows: for people with units, intervals and verdict words, or as csv and json with every digit."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from efflab.errors import RequestError, nearest
from efflab.reporting.columns import COLUMNS

Row = dict[str, Any]
SIGNS = {"extrapolated": "x", "censored": "c", "single seed": "1", "small family": "f", "slope not": "s"}


MOST_RATIO = 1000.0


def decimals(low: float, high: float) -> int:
    """Return how many decimals an interval supports: down to the first digit of its half width."""
    half = (high - low) / 2
    return 2 if half <= 0 or not math.isfinite(half) else min(3, max(0, -math.floor(math.log10(half))))


def si(value: float, unit: str = "") -> str:
    """Return a value with three digits and an SI prefix: 40.8 M."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:#.3g}".rstrip(".") + f" {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def _ratio(row: Row, name: str) -> str:
    value, low, high = row[name], row.get(f"{name}_low"), row.get(f"{name}_high")
    if value is None:
        return ""
    if low is None or high is None:
        return f"{value:.2f}x"
    return ratio_text(value, low, high)


def ratio_text(value: float, low: float, high: float) -> str:
    """Return a ratio with its interval in the digits that it supports; ends beyond 1,000 are no knowledge and not spelt out."""
    if not high < MOST_RATIO:
        return f"{value:.1f}x [{low:.1f}, no upper limit]"
    places = max(decimals(low, high), 1 if value < 10 else 0)
    return f"{value:.{places}f}x [{low:.{places}f}, {high:.{places}f}]"


def _speedup(row: Row) -> str:
    return f"{_ratio(row, 'speedup')} {row['speed_verdict'] or ''}".strip()


def _difference(row: Row) -> str:
    value, low, high = (row[f"quality_difference{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return row["status"] if row["status"] != "ok" else ""
    if low is None:
        return f"{value:+.2f}"
    places = max(1, decimals(low, high))
    words = {"not worse than the margin": "within margin"}.get(row["quality_verdict"], row["quality_verdict"])
    return f"{value:+.{places}f} [{low:+.{places}f}, {high:+.{places}f}] {words}"


def _shift(row: Row) -> str:
    if row["shift_latency"] is None:
        return ""
    signs = [sign for words, sign in SIGNS.items() if words in (row["shift_latency_flags"] or "")]
    return _ratio(row, "shift_latency") + (" " + ",".join(signs) if signs else "")


# what people see by default: heading -> how its cell is made
SHORT: dict[str, Callable[[Row], str]] = {
    "variant": lambda row: row["variant"],
    "backend": lambda row: row["backend"],
    "batch": lambda row: str(row["batch_size"]),
    "quality": lambda row: show(row, "quality"),
    "points [95 %]": _difference,
    "ms": lambda row: show(row, "latency_ms_p50"),
    "speed-up [95 %]": _speedup,
    "MACs": lambda row: "" if row["theoretical_speedup"] is None else f"/{row['theoretical_speedup']:.2f}",
    "realised": lambda row: "" if row["realisation"] is None else f"{row['realisation']:.2f}",
    "shift, time [95 %]": _shift,
}


def show(row: Row, name: str) -> str:
    """Return one value as people read it."""
    value, kind = row[name], COLUMNS[name].kind
    if value is None:
        return f"n/a (n = {row['latency_n']})" if kind == "guarded" and row["latency_n"] else ""
    if kind == "ratio":
        return _ratio(row, name) if f"{name}_low" in COLUMNS else f"{value:.2f}x"
    if kind == "points":
        return f"{value:+.2f}"
    if kind == "share":
        return f"{100 * value:.2f} %"
    if kind in ("ms", "guarded", "number", "seconds"):
        unit = {"seconds": " s"}.get(kind, "")
        return f"{value:#.3g}".rstrip(".") + unit if abs(value) < 1000 else f"{value:,.0f}{unit}"
    if kind == "si":
        return si(value)
    if kind == "bytes":
        return si(value, "B")
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def choose(columns: str | None) -> list[str] | None:
    """Return the columns of a comma-separated list, None for the default; raise RequestError for an unknown one."""
    if columns is None:
        return None
    names = [name.strip() for name in columns.split(",") if name.strip()]
    if names == ["all"]:
        return list(COLUMNS)
    for name in names:
        if name not in COLUMNS:
            raise RequestError(f"unknown column {name!r}; {nearest(name, [*COLUMNS, 'all'])}")
    return names


def render(rows: Sequence[Row], columns: list[str] | None = None, style: str = "simple") -> str:
    """Return rows in a tabulate style, or as `csv` or `json` with raw values (all columns unless some are named)."""
    if style == "json":
        return json.dumps([{name: row[name] for name in columns or COLUMNS} for row in rows], indent=1)
    if style == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns or COLUMNS)
        writer.writerows([_raw(row[name]) for name in columns or COLUMNS] for row in rows)
        return buffer.getvalue().rstrip("\n")
    from tabulate import tabulate, tabulate_formats

    if style not in tabulate_formats:
        raise RequestError(f"unknown format {style!r}; {nearest(style, [*tabulate_formats, 'csv', 'json'])}")
    heads, cells = cells_of(rows, columns)
    left = {"variant", "backend", "machine", "study", "role", "steps", "reason"}
    align = ["left" if head in left or "[" in head or head.startswith("shift") else "right" for head in heads]
    return tabulate(cells, heads, tablefmt=style, disable_numparse=True, colalign=align if cells else None)


def cells_of(rows: Sequence[Row], columns: list[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return headings and shown cells: the named columns, or the short set and what tells its rows apart."""
    if columns is not None:
        return columns, [[show(row, name) for name in columns] for row in rows]
    apart = [name for name in ("study", "machine", "device") if len({row[name] for row in rows}) > 1]
    heads = [*apart, *SHORT]
    return heads, [[str(row[name]) for name in apart] + [make(row) for make in SHORT.values()] for row in rows]


def _raw(value: Any) -> Any:
    return f"{value:.10g}" if isinstance(value, float) else value


def noise_lines(rows: Sequence[Row]) -> list[str]:
    """Return one line per A/A row: what two timings of the same model differ by."""
    lines = [
        f"noise floor (A/A), {row['backend']} batch {row['batch_size']}: {_speedup(row)}"
        for row in rows
        if row["role"] == "repeat" and row["speedup"] is not None
    ]
    return lines or ["noise floor: no A/A row was timed"]


def footer(rows: Sequence[Row], everything: Sequence[Row] | None = None) -> list[str]:
    """Return the lines under a table: noise floor (of all rows), what the words mean, machines, and failed rows."""
    lines = noise_lines(everything or rows)
    lines.append(
        "faster / slower: the whole 95 % interval of baseline time / own time lies beyond 1, the value beyond A/A's and 2 %"
    )
    margins = sorted({row["margin"] for row in rows if row["margin"] is not None})
    limit = f" {', '.join(f'{margin:.2g}' for margin in margins)} points" if margins else " the margin"
    lines.append(
        f"better / worse: the 95 % interval of the points lies beyond 0; within margin: worse, by less than{limit}"
    )
    lines.append("no difference: that interval holds 0 and excludes a loss of the margin; undecided: it holds both")
    lines.append("MACs /2.00 = half the baseline's MACs: theory, not time; realised = speed-up / that")
    lines.append(
        "shift = time that the dense family needs for this error over own time; below 1 a smaller dense net wins"
    )
    used = [f"{sign} {words}" for words, sign in SIGNS.items() if _flagged(rows, words)]
    if used:
        lines.append("signs: " + "; ".join(used).replace("slope not", "slope not significant"))
    machines = sorted({str(row["machine"]) for row in rows})
    apart = " (never compared with each other)" if len(machines) > 1 else ""
    lines.append(f"machine: {', '.join(machines)}{apart}")
    lines.extend(f"{row['status']}: {row['variant']} on {row['backend']} batch {row['batch_size']}: {row['reason']}"
                 for row in rows if row["reason"])  # fmt: skip
    return lines


def _flagged(rows: Sequence[Row], words: str) -> bool:
    return any(row["shift_latency"] is not None and words in (row["shift_latency_flags"] or "") for row in rows)
