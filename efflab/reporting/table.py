"""Prints rows: for people with units, intervals and verdict words, or as csv and json with every digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from efflab.comparison.columns import COLUMNS, column_of, heading, known
from efflab.comparison.row import Row
from efflab.foundation.errors import RequestError
from efflab.frontier.flags import FlagKind
from efflab.reporting.numbers import digits, fixed, points_text, ratio_text, si
from efflab.statistics import Interval

# signs behind a shift, by the flags that they stand for
SIGNS = {
    FlagKind.EXTRAPOLATED: "x",
    FlagKind.CENSORED: "c",
    FlagKind.SINGLE_SEED: "s",
    FlagKind.SMALL_FAMILY: "f",
    FlagKind.NOT_MONOTONIC: "m",
}
BEATEN = "d"  # sign behind a speed-up: a dense model is better and faster
OTHER_START = (
    "o"  # sign behind the name of a variant: it is made of another dense model than the one it is compared with
)
DEFAULT = (
    "variant", "backend", "batch_size", "quality", "quality_difference", "latency_ms_p50", "speedup",
    "theoretical_speedup", "realisation", "shift_latency",
)  # fmt: skip
IDENTITY = (
    "study",
    "machine",
    "device",
    "variant",
    "role",
    "steps",
    "baseline",
    "family",
    "task",
    "backend",
    "batch_size",
)


def ratio(found: Interval) -> str:
    """Return a ratio with its interval, as far as they are known."""
    if not found.known:
        return ""
    return ratio_text(found.value, found.low, found.high) if found.bounded else f"{found.value:.2f}x"


def starts_elsewhere(row: Row) -> bool:
    """Say whether a row's model is made of another dense model than the one it is compared with."""
    return row.of is not None and row.of != row.baseline


def _speedup(row: Row) -> str:
    signs = [
        ratio(row.against.speedup),
        row.against.speed_verdict or "",
        BEATEN if row.against.beaten_by and row.against.speedup.known else "",
    ]
    return " ".join(sign for sign in signs if sign)


def difference(row: Row) -> str:
    """Return a row's points against its baseline with their interval."""
    found = row.against.difference
    if not found.known:
        return ""
    if not found.bounded:
        return fixed(found.value, 2, "+")
    return points_text(found.value, found.low, found.high, row.against.margin)


def shift(row: Row, axis: str) -> str:
    """Return a row's shift on an axis (macs or latency) with its interval and signs, or that it is not measurable."""
    found = row.shift(axis)
    if not found.shift.known:
        return FlagKind.NOT_MEASURABLE.value if found.has(FlagKind.NOT_MEASURABLE) else ""
    signs = ",".join(sign for kind, sign in SIGNS.items() if found.has(kind))
    return f"{ratio(found.shift)} {signs}".rstrip()


# columns that people see otherwise than as one value of their kind
CELLS: dict[str, Callable[[Row], str]] = {
    "variant": lambda row: f"{row.variant} {OTHER_START * starts_elsewhere(row)}".rstrip(),
    "quality_difference": lambda row: f"{difference(row)} {row.against.quality_verdict or ''}".strip(),
    "speedup": _speedup,
    "realisation": lambda row: "" if row.against.realisation is None else f"{row.against.realisation:.2f}",
    "shift_macs": lambda row: shift(row, "macs"),
    "shift_latency": lambda row: shift(row, "latency"),
}


def show(row: Row, name: str) -> str:
    """Return one value as people read it."""
    value, kind = row[name], COLUMNS[name].kind
    if name in CELLS:
        return CELLS[name](row)
    if value is None:
        return f"n/a (n = {row.time.calls})" if kind == "guarded" and row.time.calls else ""
    if kind == "ratio":
        low, high = (row[name + end] if name + end in COLUMNS else None for end in ("_low", "_high"))
        return f"{value:.2f}x" if low is None or high is None else ratio_text(value, low, high)
    if kind == "points":
        return fixed(value, 2, "+")
    if kind == "share":
        return f"{100 * value:.2f} %"
    if kind in ("ms", "guarded", "number", "seconds"):
        return digits(value, {"seconds": " s"}.get(kind, ""))
    if kind == "si":
        return si(value)
    if kind == "bytes":
        return si(value, "B")
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def choose(columns: str | None) -> list[str] | None:
    """Return the columns of a comma-separated list, None for the default; raise RequestError for an unknown one."""
    if columns is None:
        return None
    words = [word.strip() for word in columns.split(",") if word.strip()]
    if not words:
        raise RequestError(f"no column is named in {columns!r}; name some, or `all`")
    if words == ["all"]:
        return list(COLUMNS)
    return [column_of(word, also=["all"] if words == [word] else []) for word in words]


def default_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns that people see unless they name some: the short set, and what tells its rows apart."""
    return [*(name for name in ("study", "machine", "device") if len({row[name] for row in rows}) > 1), *DEFAULT]


def fold_unavailable(rows: Sequence[Row]) -> list[Row]:
    """Return rows in which each variant that is not available on a backend stands once, for all batch sizes."""
    folded: dict[Any, Row] = {}
    for index, row in enumerate(rows):
        if row.status == "unavailable":
            place = row.place.without_batch()
            key = (row.variant, row.role, row.steps, row.baseline, row.family, place)
            folded.setdefault(key, replace(row, place=place))
        else:
            folded[index] = row
    return list(folded.values())


def cells(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """Return the shown cells; a row without any value has its status in the first column that is to hold one."""
    shown = [[show(row, name) for name in columns] for row in rows]
    values = [index for index, name in enumerate(columns) if name not in IDENTITY]
    for row, line in zip(rows, shown, strict=True):
        if row.status != "ok" and values and "status" not in columns and not any(line[index] for index in values):
            line[values[0]] = row.status
    return shown


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
    if columns == list(COLUMNS):
        check_style(style)
        return "\n\n".join(_upright(row, style) for row in rows)
    names = columns or default_columns(rows)
    right = {name for name in names if COLUMNS[name].kind != "word" and f"{name}_low" not in COLUMNS}
    align = ["right" if name in right | {"latency_ms_p50"} else "left" for name in names]
    return tabulated([heading(name) for name in names], cells(rows, names), align, style)


def tabulated(heads: Sequence[str], body: Sequence[Sequence[str]], align: Sequence[str], style: str) -> str:
    """Return shown cells as a table in a tabulate style."""
    from tabulate import tabulate

    check_style(style)
    return tabulate(body, heads, tablefmt=style, disable_numparse=True, colalign=align if body else None)


def _upright(row: Row, style: str) -> str:
    """Return all that is known of one row, a line for each column."""
    place = f"{row.variant}, {row.place.words}"
    body = [[name, shown] for name in COLUMNS if (shown := show(row, name))]
    return tabulated([place, ""], body, ["left", "left"], style)


def check_style(style: str) -> None:
    """Raise RequestError for an unknown format."""
    from tabulate import tabulate_formats

    if style not in tabulate_formats and style not in ("csv", "json"):
        raise RequestError(f"unknown --format {style!r}; {known(style, [*tabulate_formats, 'csv', 'json'])}")


def _raw(value: Any) -> Any:
    return f"{value:.10g}" if isinstance(value, float) else value
