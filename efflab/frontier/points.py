"""Reads points of compute and error from CSV files, and says which rows it left out and why."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from efflab.foundation.errors import Problem, RequestError, nearest
from efflab.foundation.outside import content_of
from efflab.frontier import cells as written
from efflab.frontier.cells import DecimalSign, missing, plain
from efflab.frontier.units import header_words

Cells = dict[str, str]
Column = Callable[[Cells], str]

# scores in percent, in the tables of Thompson et al. (arXiv 2007.05558), the first that a file has
SCORES = ("(TOP 1 score)", "(BOX AP)", "(EM score)", "(F1 score)", "(BLEU)")

# log10(hardware burden) = first + second x log10(network operations): the authors' constants for tables, such as that of
# object detection, in which too few rows have both to fit them
BURDEN_OF_OPERATIONS = (2.7580, 0.8935)
ENOUGH_TO_IMPUTE = 10
DELIMITERS = ",;\t"
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
    notes: tuple[str, ...] = ()  # how a column that is not of plain numbers was read

    @property
    def repeated(self) -> int:
        """How many points stand a second time, with equal compute, error and year."""
        years = self.year if self.year is not None else np.zeros_like(self.error)
        return len(self.error) - len({*zip(self.compute.tolist(), self.error.tolist(), years.tolist(), strict=True)})


def read_points(
    path: Path,
    compute: str,
    error: str,
    year: str | None = None,
    cluster: str | None = None,
    percent: bool = False,
    decimal: DecimalSign | None = None,
) -> Points:
    """Read the named columns of a table; rows without a value are left out and counted, `#` lines above the header passed.

    Commas, semicolons or tabs separate the cells. `percent`: the error column holds a score in percent, error = 1 - score
    / 100. Errors are fractions; they are divided by 100 where every row has a percent sign or the header says percent.
    Numbers may have a decimal comma, grouped thousands and, in the compute column, units (see `cells.py`); `notes` says
    so. `decimal` says what a sign means where the column does not show it: `1,234` is 1234 for `point` and 1.234 for `comma`.

    The tables of the paper's authors have three more columns: `ops_forward_pass` (flops, else 2 x multiadds),
    `consolidated_hardware_burden` (imputed from network_operations where it is missing) and `error` (from the score in
    percent); their rows of nested headers do not count.

    Raises RequestError, with a problem for each fault of a column, for a missing file or column, a cell that is no number
    or can mean two, signs or units in only some rows, a compute that is not above 0, or an error outside 0 to 1.
    """
    wanted = [name for name in (compute, error, year, cluster) if name]
    rows, columns, delimiter = _rows(path, wanted)
    if not columns:
        raise RequestError(Problem(str(path), "the file is empty; it needs a header and a row for each point"))
    unknown = [name for name in wanted if name not in columns]
    if unknown:
        raise RequestError([Problem(str(path), f"no column {name!r}; {nearest(name, columns)}") for name in unknown])
    _check_header(path, error, percent)
    asked: list[tuple[str, written.Kind]] = [(compute, "compute"), (error, "score" if percent else "error")]
    asked += [(year, "year")] if year else []
    kept: list[tuple[int, Cells, list[str]]] = []
    left_out: Counter[str] = Counter()
    for line, cells in rows:
        texts = [columns[name](cells) for name, _ in asked]
        blank = next((name for (name, _), text in zip(asked, texts, strict=True) if missing(text)), None)
        if blank is not None:
            left_out[f"no number in {blank}"] += 1
            continue
        kept.append((line, cells, texts))
    if not kept:
        raise RequestError(Problem(str(path), f"no row has both {compute} and {error}"))
    tables = [
        written.NumberColumn(name, kind, tuple((line, texts[index]) for line, _, texts in kept))
        for index, (name, kind) in enumerate(asked)
    ]
    values, notes, problems = written.read_columns(str(path), tables, delimiter == ";", decimal)
    if problems:
        raise RequestError(problems)
    errors = [1 - value / 100 for value in values[1]] if percent else values[1]
    _check(path, tables[0], values[0])
    _check(path, tables[1], errors)
    return Points(
        names=tuple(cells.get("name") or cells.get("model") or f"line {line}" for line, cells, _ in kept),
        compute=np.array(values[0]),
        error=np.array(errors),
        year=np.array(values[2]) if year else None,
        cluster=tuple(columns[cluster](cells) for _, cells, _ in kept) if cluster else None,
        rows=len(rows),
        left_out=dict(left_out),
        notes=notes,
    )


def _check_header(path: Path, error: str, percent: bool) -> None:
    words = {word.lower() for word in header_words(error)}
    errors = bool(words & {"err", "errs", "error", "errors"})
    scores = bool(words & {"acc", "accuracy", "accuracies", "score", "scores"})
    if percent and errors and not scores:
        how = "give --error, with percent signs behind errors in percent"
        raise RequestError(Problem(str(path), f"the header says that {error!r} holds errors, not scores; {how}"))
    falls = errors or words & {"loss", "drop", "gap"} or error.strip().startswith("1")
    if not percent and scores and not falls:
        how = "give --score instead of --error, with scores in percent"
        raise RequestError(Problem(str(path), f"the header says that {error!r} holds scores, not errors; {how}"))


def _check(path: Path, column: written.NumberColumn, values: list[float]) -> None:
    """Raise RequestError for the first value that no point can have, with the number of others."""
    compute = column.kind == "compute"
    wrong = [index for index, value in enumerate(values) if not (value > 0 and (compute or value < 1))]
    if not wrong:
        return
    line, text = column.cells[wrong[0]]
    value = values[wrong[0]]
    more = written.others(len(wrong))
    cell = "" if plain(text) is not None else f" in {text!r}"
    if compute:
        raise RequestError(Problem(f"{path}:{line}", f"{column.name} must be above 0 (found {value:g}{cell}){more}"))
    hint = ""
    if value >= 1 and column.kind == "error":
        fraction = f"for errors in percent write {text}% in every row"
        hint = f"; for scores in percent give --score instead of --error{'' if cell else '; ' + fraction}"
    what = f"{column.name} gives an error of {value:g}{cell}; it must be above 0 and below 1{hint}{more}"
    raise RequestError(Problem(f"{path}:{line}", what))


def _rows(path: Path, wanted: list[str]) -> tuple[list[tuple[int, Cells]], dict[str, Column], str]:
    try:
        text = content_of(path, 4 * MOST_CHARACTERS).decode("utf-8-sig")
        if len(text) > MOST_CHARACTERS:
            raise csv.Error(f"longer than {MOST_CHARACTERS:,} characters; take a sample of its rows")
        lines = text.splitlines(keepends=True)
        first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
        delimiter = _delimiter(lines[first:], wanted)
        reader = csv.DictReader(lines[first:], delimiter=delimiter, strict=True, skipinitialspace=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
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
        rows = [(line, cells) for line, cells in rows if not missing(cells.get("year", ""))]
        columns |= _of_the_authors(path, header, rows)
    return rows, columns, delimiter


def _delimiter(lines: list[str], wanted: list[str]) -> str:
    """Return the delimiter with which the header has most of the wanted columns, then most columns."""

    def fit(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])]
        return len(set(wanted) & set(names)), len(names)

    return max(DELIMITERS, key=fit)


def _check_table(path: Path, header: list[str], rows: list[tuple[int, Cells]]) -> None:
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise RequestError(Problem(str(path), f"the header names {twice!r} more than once"))
    long = next((line for line, row in rows if None in row), None)
    if long is not None:
        raise RequestError(
            Problem(
                f"{path}:{long}", f"more cells than the header's {len(header)}; quote a cell that holds the separator"
            )
        )


def _plain(name: str) -> Column:
    return lambda cells: cells.get(name, "")


def _burden_of_operations(path: Path, rows: list[tuple[int, Cells]]) -> tuple[float, float]:
    pairs = []
    for line, cells in rows:
        texts = {name: cells.get(name, "") for name in ("network_operations", "hardware_burden")}
        odd = next((name for name, text in texts.items() if not missing(text) and plain(text) is None), None)
        if odd:
            how = "from which burdens are imputed; write it in digits with a decimal point, such as 1.2e9"
            raise RequestError(Problem(f"{path}:{line}", f"{odd} is {texts[odd]!r}, {how}"))
        pairs.append([plain(text) for text in texts.values()])
    both = np.log10([(operations, burden) for operations, burden in pairs if operations and burden])
    if len(both) < ENOUGH_TO_IMPUTE:
        return BURDEN_OF_OPERATIONS
    second, first = np.polyfit(both[:, 0], both[:, 1], 1)
    return float(first), float(second)


def _of_the_authors(path: Path, header: list[str], rows: list[tuple[int, Cells]]) -> dict[str, Column]:
    """Return the derived columns; where one is derived from a text that is no plain number, so is the cell, and is refused."""
    score = next((name for name in SCORES if name in header), None)
    line = cache(lambda: _burden_of_operations(path, rows))

    def forward(cells: Cells) -> str:
        text = cells.get("multiadds", "")
        products = plain(text)
        derived = str(2 * products) if products is not None else "" if missing(text) else f"2 x {text}"
        return cells.get("flops") or derived

    def burden(cells: Cells) -> str:
        text = cells.get("network_operations", "")
        if cells.get("hardware_burden") or missing(text):
            return cells.get("hardware_burden", "")
        first, slope = line()
        operations = plain(text)
        return str(10 ** (first + slope * math.log10(operations))) if operations else ""

    def error(cells: Cells) -> str:
        text = cells.get(str(score), "")
        value = plain(text)
        if value is None or 0 < value <= 1:  # a fraction, where all scores are in percent
            return "" if missing(text) else f"1 - {text} / 100"
        return repr(1 - value / 100)

    derived: dict[str, Column] = {"ops_forward_pass": forward, "consolidated_hardware_burden": burden}
    return derived | ({"error": error} if score else {})
