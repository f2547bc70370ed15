"""Lays the comparison out to be read: the variants first, then the dense family as one block, fitted to a terminal.

On a terminal that is too narrow whole columns are left out, those of IMPORTANCE kept first that stand first in it, and
the rows are parted by backend and batch size: such rows are the ones to compare with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from efflab.comparison.columns import heading
from efflab.comparison.place import Place
from efflab.comparison.row import Row
from efflab.foundation.table_text import tabulated
from efflab.foundation.visible import cell
from efflab.reporting.numbers import si
from efflab.reporting.table import DEFAULT, apart_columns, fold_unavailable, render, show

IMPORTANCE = (
    "variant", "speedup", "quality_difference", "latency_ms_p50", "quality", "shift_latency", "theoretical_speedup",
    "realisation",
)  # fmt: skip


def comparison(rows: Sequence[Row], style: str = "simple", width: int | None = None) -> tuple[str, list[str]]:
    """Return the variants' table with the dense family beneath it, and the columns left out for the width."""
    table, left_out = fitted([row for row in rows if row.role != "dense"], style, width)
    return "\n\n".join(part for part in (table, dense_family(rows, style, width)) if part), left_out


def fitted(rows: Sequence[Row], style: str = "simple", width: int | None = None) -> tuple[str, list[str]]:
    """Return the table of all rows, narrowed if a width is given and the style is `simple`, and the columns left out."""
    rows = fold_unavailable(rows)
    whole = render(rows, style=style)
    if width is None or style != "simple" or _width(whole) <= width:
        return whole, []
    rows = [row for row in rows if row.status != "unavailable"]  # the lines under the table name these
    columns = [IMPORTANCE[0]]
    for name in IMPORTANCE[1:]:
        wider = [one for one in DEFAULT if one in (*columns, name)]
        if _width(render(rows, wider)) <= width:
            columns = wider
    apart = apart_columns(rows)
    places = [", ".join([row.place.words, *(f"{name} {row[name]}" for name in apart)]) for row in rows]
    return _parted(render(rows, columns), places), [name for name in IMPORTANCE if name not in columns]


def _parted(table: str, labels: Sequence[str]) -> str:
    """Return a table of style `simple` with its lines under their labels."""
    lines = table.splitlines()
    groups: dict[str, list[str]] = {}
    for label, line in zip(labels, lines[2:], strict=True):
        groups.setdefault(cell(label), []).append(line)
    return "\n".join([*lines[:2], *(line for label, some in groups.items() for line in (f"{label}:", *some))])


def _width(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


def dense_family(rows: Sequence[Row], style: str = "simple", width: int | None = None) -> str:
    """Return the dense models, a line for each backend with its times at all batch sizes; empty if there are none."""
    apart = apart_columns(rows)
    members: dict[tuple[Place, str], dict[int, Row]] = {}
    for row in rows:
        if row.role in ("baseline", "dense"):
            members.setdefault((row.place.without_batch(), row.variant), {})[row.place.batch_size] = row
    if not any(row.role == "dense" for row in rows):
        return ""
    backends = list(dict.fromkeys(row.place.backend for row in rows))
    batches = sorted({batch for by_batch in members.values() for batch in by_batch})
    lines = []

    def order(by_batch: dict[int, Row]) -> tuple[list[Any], int, int]:
        row = _first(by_batch)
        return [row[name] for name in apart], backends.index(row.place.backend), row.work.macs or 0

    for by_batch in sorted(members.values(), key=order):
        row = _first(by_batch)
        times = {
            f"ms, batch {batch}": show(by_batch[batch], "latency_ms_p50") if batch in by_batch else ""
            for batch in batches
        }
        name = f"{row.variant} (baseline)" if row.role == "baseline" else row.variant
        told = {"backend": row.place.backend, "dense model": name, "MACs": si(row.work.macs) if row.work.macs else "",
                "quality": show(row, "quality") or row.status}  # fmt: skip
        lines.append({**{one: str(row[one]) for one in apart}, **told, **times})
    for dropped in (set[str](), {"backend"}, {"backend", "MACs"}, {"backend", "MACs", "quality"}):
        heads = [head for head in lines[0] if head not in dropped]
        align = ["right" if head in ("MACs", "quality") or head.startswith("ms") else "left" for head in heads]
        table = tabulated(heads, [[line[head] for head in heads] for line in lines], style, align)
        if width is None or style != "simple" or _width(table) <= width:
            break
    return _parted(table, [line["backend"] for line in lines]) if dropped else table


def _first(by_batch: dict[int, Row]) -> Row:
    return next(iter(by_batch.values()))


def left_out_line(left_out: Sequence[str], width: int) -> str:
    """Say which columns did not fit and how to see them."""
    names = [heading(name).replace(",", "").split()[0] for name in left_out]
    wanted = ",".join(["variant", "backend", "batch", *names])
    return f"left out, as the terminal is {width} characters wide: {', '.join(names)}; --columns {wanted} shows them"
