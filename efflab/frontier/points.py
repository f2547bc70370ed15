"""Reads points of compute and error from CSV files, and says which rows it left out and why."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efflab.errors import Problem, RequestError, nearest

Cells = dict[str, str]
Column = Callable[[Cells], str]

# scores in percent, in the tables of Thompson et al. (arXiv 2007.05558), the first that a file has
SCORES = ("(TOP 1 score)", "(BOX AP)", "(EM score)", "(F1 score)", "(BLEU)")

# log10(hardware burden) = first + second x log10(network operations): the authors' constants for tables, such as that of
# object detection, in which too few rows have both to fit them
BURDEN_OF_OPERATIONS = (2.7580, 0.8935)
ENOUGH_TO_IMPUTE = 10
MOST_CHARACTERS = 16_000_000  # some 300,000 points; no law needs more, and a device file has no end


@dataclass(frozen=True)
class Points:
    """Points of one file: compute in the file's unit, errors as fractions."""

    names: tuple[str, ...]
    compute: np.ndarray
    error: np.ndarray
    year: np.ndarray | None
    cluster: tuple[str, ...] | None
    rows: int
    left_out: dict[str, int]  # reason -> rows

    @property
    def repeated(self) -> int:
        """How many points stand a second time, with equal compute, error and year."""
        years = self.year if self.year is not None else np.zeros_like(self.error)
        return len(self.error) - len({*zip(self.compute.tolist(), self.error.tolist(), years.tolist(), strict=True)})


def read_points(
    path: Path, compute: str, error: str, year: str | None = None, cluster: str | None = None, percent: bool = False
) -> Points:
    """Read the named columns of a CSV file; rows without a value are left out and counted, `#` lines above the header passed.

    `percent`: the error column holds a score in percent, error = 1 - score / 100. The tables of the paper's authors have
    three more columns: `ops_forward_pass` (flops, else 2 x multiadds), `consolidated_hardware_burden` (imputed from
    network_operations where it is missing) and `error` (from the score in percent); their rows of nested headers do not
    count. Raises RequestError for a missing file or column, a negative compute, or an
    error outside 0 to 1.
    """
    rows, columns = _rows(path)
    if not columns:
        raise RequestError(Problem(str(path), "the file is empty; it needs a header and a row for each point"))
    wanted = [name for name in (compute, error, year, cluster) if name]
    unknown = [name for name in wanted if name not in columns]
    if unknown:
        raise RequestError([Problem(str(path), f"no column {name!r}; {nearest(name, columns)}") for name in unknown])
    kept: list[tuple[str, float, float, float, str]] = []
    left_out: Counter[str] = Counter()
    for line, cells in rows:
        values = {name: _number(columns[name](cells)) for name in (compute, error, year) if name}
        blank = next((name for name, value in values.items() if value is None), None)
        if blank is not None:
            left_out[f"no number in {blank}"] += 1
            continue
        x, e = float(values[compute] or 0), float(values[error] or 0)
        e = 1 - e / 100 if percent else e
        _check(path, line, compute, x, error, e)
        when = float(values[year] or 0) if year else math.nan
        name = cells.get("name") or cells.get("model") or f"line {line}"
        kept.append((name, x, e, when, columns[cluster](cells) if cluster else ""))
    if not kept:
        raise RequestError(Problem(str(path), f"no row has both {compute} and {error}"))
    names, xs, es, years, groups = zip(*kept, strict=True)
    return Points(
        names=names,
        compute=np.array(xs),
        error=np.array(es),
        year=np.array(years) if year else None,
        cluster=groups if cluster else None,
        rows=len(rows),
        left_out=dict(left_out),
    )


def _check(path: Path, line: int, compute: str, x: float, error: str, e: float) -> None:
    place = f"{path}:{line}"
    if not x > 0:
        raise RequestError(Problem(place, f"{compute} must be above 0 (found {x:g})"))
    if not 0 < e < 1:
        hint = "; for scores in percent give --score instead of --error" if e >= 1 else ""
        raise RequestError(Problem(place, f"{error} gives an error of {e:g}; it must be above 0 and below 1{hint}"))


def _rows(path: Path) -> tuple[list[tuple[int, Cells]], dict[str, Column]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read(MOST_CHARACTERS + 1)
        if len(text) > MOST_CHARACTERS:
            raise csv.Error(f"longer than {MOST_CHARACTERS:,} characters; take a sample of its rows")
        lines = text.splitlines(keepends=True)
        first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
        reader = csv.DictReader(lines[first:], strict=True)
        header = list(reader.fieldnames or ())
        rows = [(first + reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise RequestError(Problem(str(path), "there is no such file")) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        raise RequestError(Problem(str(path), f"not a readable CSV file ({reason})")) from error
    _check_table(path, header, rows)
    rows = [(line, {key: (value or "").strip() for key, value in row.items()}) for line, row in rows]
    columns = {name: _plain(name) for name in header}
    if {"flops", "multiadds", "fp_bp_ratio"} <= set(header):
        rows = [(line, cells) for line, cells in rows if _number(cells.get("year", "")) is not None]
        columns |= _of_the_authors(header, [cells for _, cells in rows])
    return rows, columns


def _check_table(path: Path, header: list[str], rows: list[tuple[int, Cells]]) -> None:
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise RequestError(Problem(str(path), f"the header names {twice!r} more than once"))
    long = next((line for line, row in rows if None in row), None)
    if long is not None:
        raise RequestError(Problem(f"{path}:{long}", f"more cells than the header's {len(header)}"))


def _plain(name: str) -> Column:
    return lambda cells: cells.get(name, "")


def _burden_of_operations(rows: list[Cells]) -> tuple[float, float]:
    pairs = [
        (_number(cells.get("network_operations", "")), _number(cells.get("hardware_burden", ""))) for cells in rows
    ]
    both = np.log10([(operations, burden) for operations, burden in pairs if operations and burden])
    if len(both) < ENOUGH_TO_IMPUTE:
        return BURDEN_OF_OPERATIONS
    second, first = np.polyfit(both[:, 0], both[:, 1], 1)
    return float(first), float(second)


def _of_the_authors(header: list[str], rows: list[Cells]) -> dict[str, Column]:
    score = next((name for name in SCORES if name in header), None)
    first, slope = _burden_of_operations(rows)

    def forward(cells: Cells) -> str:
        products = _number(cells.get("multiadds", ""))
        return cells.get("flops") or (str(2 * products) if products is not None else "")

    def burden(cells: Cells) -> str:
        operations = _number(cells.get("network_operations", ""))
        imputed = str(10 ** (first + slope * math.log10(operations))) if operations else ""
        return cells.get("hardware_burden") or imputed

    def error(cells: Cells) -> str:
        value = _number(cells.get(str(score), ""))
        return "" if value is None else repr(1 - value / 100)

    derived: dict[str, Column] = {"ops_forward_pass": forward, "consolidated_hardware_burden": burden}
    return derived | ({"error": error} if score else {})


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "").removesuffix("%"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
