"""Prints rows: for people with units, intervals and verdict words, or as csv and json with every digit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from efflab.comparison.columns import COLUMNS, column_of, heading, known
from efflab.comparison.row import Row
from efflab.foundation.errors import RequestError
from efflab.foundation.table_text import csv_text, tabulated
from efflab.frontier.flags import FlagKind
from efflab.records.quality import SHARE
from efflab.reporting.numbers import digits, fixed, points_text, quality_text, ratio_text, si
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
MOST_FURTHER = 20  # further metrics with a column each
MOST_ROWS = 1500  # on a page; rows.csv holds all
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


def unit_of_difference(row: Row) -> str:
    """Return the unit of a row's difference where there is one and the column's heading does not say it."""
    return "" if row.quality.unit == SHARE or not row.against.difference.known else row.quality.unit


def heading_of(name: str, rows: Sequence[Row]) -> str:
    """Return what a table of these rows calls a column: `points` only where all metrics are shares."""
    if name == "quality_difference" and any(row.quality.unit != SHARE for row in rows):
        return "difference [95 %]"
    return heading(name) if name in COLUMNS else name


def further_metrics(rows: Sequence[Row]) -> list[str]:
    """Return the names of the metrics that the tasks of these rows have beside the first."""
    return list(dict.fromkeys(name for row in rows for name in row.quality.others))


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
    "quality_difference": lambda row: " ".join(
        filter(None, (difference(row), unit_of_difference(row), row.against.quality_verdict))
    ),
    "speedup": _speedup,
    "realisation": lambda row: "" if row.against.realisation is None else f"{row.against.realisation:.2f}",
    "shift_macs": lambda row: shift(row, "macs"),
    "shift_latency": lambda row: shift(row, "latency"),
}


def show(row: Row, name: str) -> str:
    """Return one value as people read it."""
    value, kind = row[name], COLUMNS[name].kind if name in COLUMNS else "number"
    if name in CELLS:
        return CELLS[name](row)
    if value is None:
        return f"n/a (n = {row.time.calls})" if kind == "guarded" and row.time.calls else ""
    if kind == "ratio":
        low, high = (row[name + end] if name + end in COLUMNS else None for end in ("_low", "_high"))
        return f"{value:.2f}x" if low is None or high is None else ratio_text(value, low, high)
    if kind == "points":
        return fixed(value, 2, "+")
    if kind == "quality":
        return quality_text(value, row.quality.unit)
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


def apart_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns that tell rows of several studies, machines or devices apart."""
    return [name for name in ("study", "machine", "device") if len({row[name] for row in rows}) > 1]


def default_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns that people see unless they name some: the short set, and what tells its rows apart."""
    own = DEFAULT.index("quality") + 1
    return [*apart_columns(rows), *DEFAULT[:own], *further_metrics(rows)[:MOST_FURTHER], *DEFAULT[own:]]


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


def foremost(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that a page shows, in their order: dense models and A/A first, then what no other row beats."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    ranks = {"baseline": 0, "repeat": 1, "dense": 2}
    ordered = sorted(rows, key=lambda row: (ranks.get(row.role, 3), not row.pareto, row.role == "control"))
    chosen = {id(row) for row in ordered[:MOST_ROWS]}
    return [row for row in rows if id(row) in chosen]


def left_out(rows: Sequence[Row], shown: Sequence[Row]) -> list[str]:
    """Say how many rows a table lacks, and where they stand."""
    if len(rows) == len(shown):
        return []
    return [
        f"{len(shown):,} of {len(rows):,} rows stand here: dense models, those that no other beats, and the first of the rest; "
        "rows.csv holds all"
    ]


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
    every = columns or [*COLUMNS, *further_metrics(rows)]
    if style == "json":
        return json.dumps([{name: row[name] for name in every} for row in rows], indent=1)
    if style == "csv":
        return csv_text(every, ([_raw(row[name]) for name in every] for row in rows)).rstrip("\n")
    if columns == list(COLUMNS):
        check_style(style)
        return "\n\n".join(_upright(row, style) for row in rows)
    names = columns or default_columns(rows)
    right = {
        name for name in names if f"{name}_low" not in COLUMNS and (name not in COLUMNS or COLUMNS[name].kind != "word")
    }
    align = ["right" if name in right | {"latency_ms_p50"} else "left" for name in names]
    check_style(style)
    return tabulated([heading_of(name, rows) for name in names], cells(rows, names), style, align)


def _upright(row: Row, style: str) -> str:
    """Return all that is known of one row, a line for each column."""
    place = f"{row.variant}, {row.place.words}"
    body = [[name, shown] for name in (*COLUMNS, *row.quality.others) if (shown := show(row, name))]
    return tabulated([place, ""], body, style, ["left", "left"])


def check_style(style: str) -> None:
    """Raise RequestError for an unknown format."""
    from tabulate import tabulate_formats

    if style not in tabulate_formats and style not in ("csv", "json"):
        raise RequestError(f"unknown --format {style!r}; {known(style, [*tabulate_formats, 'csv', 'json'])}")


def _raw(value: Any) -> Any:
    return f"{value:.10g}" if isinstance(value, float) else value
