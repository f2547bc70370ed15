"""Prints rows in any tabulate format, as csv or as json."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from efflab.foundation.errors import RequestError
from efflab.foundation.table_text import csv_text, tabulated
from efflab.foundation.visible import cell

LEAST_WIDTH = 20  # a narrower column is harder to read than a line that the terminal breaks


def show(rows: Sequence[dict[str, Any]], style: str, columns: Sequence[str]) -> None:
    """Print `columns` of `rows`; raise RequestError for an unknown `style`."""
    if style == "json":
        print(json.dumps([{column: row.get(column) for column in columns} for row in rows], indent=1))
    elif style == "csv":
        print(csv_text(columns, [[row.get(column, "") for column in columns] for row in rows]), end="")
    else:
        from tabulate import tabulate_formats

        if style not in tabulate_formats:
            from efflab.comparison.columns import known  # numpy comes with it, which tables do without

            raise RequestError(f"unknown --format {style!r}; {known(style, [*tabulate_formats, 'csv', 'json'])}")
        body = [[cell(row.get(column, "")) for column in columns] for row in rows]
        widths = _widths(body, columns) if sys.stdout.isatty() and style in ("plain", "simple") else None
        print(tabulated(columns, body, style, widths=widths))


def _widths(body: list[list[str]], columns: Sequence[str]) -> list[int | None] | None:
    """Return tabulate's column widths with which the last column is wrapped to fit the terminal; None if all fits."""
    others = [max(len(row[index]) for row in [columns, *body]) for index in range(len(columns) - 1)]
    left = shutil.get_terminal_size().columns - sum(others) - 2 * len(others)
    return [*[None] * len(others), left] if left >= LEAST_WIDTH else None
