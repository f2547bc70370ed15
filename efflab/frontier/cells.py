"""Reads the numbers of a table as people write them, and refuses a cell that can mean two numbers.

Read are: a decimal point or a decimal comma; thousands grouped by comma, point, space, apostrophe or underscore; a percent
sign behind errors and scores; behind compute K, M, G, T, P or B (billion) and FLOPs, MACs, ops or params. One column has one
notation: a percent sign, a unit and a decimal sign stand in all its rows or the column is refused.

What `1,234` means is taken from the same column: from `1,5` (decimal), or from `1,234.5` and `1,234,567` (thousands).
Without such a cell the column is refused, unless the caller says what a sign means. `1.234` has a decimal point, except
beside decimal commas in the same table.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from efflab.foundation.errors import Problem
from efflab.frontier.units import header_says_percent, of_compute

Kind = Literal["compute", "error", "score", "year"]
DecimalSign = Literal["point", "comma"]

LONGEST = 60  # characters; no number is longer
SAME = str.maketrans(
    {"\u2212": "-", "\u2019": "'", "\uff05": "%", "\u00a0": " ", "\u2007": " ", "\u2009": " ", "\u202f": " "}
)
NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>[\d.,][\d.,' _]*?)(?:e(?P<power>[+-]?\d{1,4}))? *(?P<unit>%|[a-z][a-z /-]*)?",
    re.ASCII | re.IGNORECASE,
)
WHOLE = re.compile(r"\d*|[1-9]\d{0,2}([,.' _])\d{3}(?:\1\d{3})*", re.ASCII)
INFINITE = re.compile(r"[+-]?(?:inf|infinity|\u221e)", re.IGNORECASE)
SIGNS = "percent signs"
HOW = "write it in digits with a decimal point, such as 1234.5 or 1.2e9"


class Reading(NamedTuple):
    """One number that the digits of a cell can mean, and the signs that this reading takes for decimal and for thousands."""

    digits: str
    decimal: str
    group: str

    @property
    def style(self) -> DecimalSign | None:
        """Return which decimal sign this reading shows for the column, None if it fits both."""
        if self.decimal == "." or self.group == ",":
            return "point"
        return "comma" if self.decimal == "," or self.group == "." else None


@dataclass(frozen=True)
class NumberCell:
    """A cell with its readings; `power` is the exponent that it writes."""

    line: int
    text: str
    sign: str
    power: int
    unit: str
    readings: tuple[Reading, ...]

    @property
    def style(self) -> DecimalSign | None:
        """Return which decimal sign the cell shows on its own."""
        return self.readings[0].style if len(self.readings) == 1 else None


@dataclass(frozen=True)
class NumberColumn:
    """A column to read: its name, what it holds, and its cells with their lines."""

    name: str
    kind: Kind
    cells: tuple[tuple[int, str], ...]


class Fault(NamedTuple):
    """What is wrong with one cell; faults of the same kind in a column are one problem."""

    kind: str
    line: int
    what: str


def missing(text: str) -> bool:
    """Whether a cell holds no number at all: blank, `n/a`, `nan`, `-` or another word without digits."""
    return not any(mark.isdigit() or mark.isnumeric() for mark in text) and not INFINITE.fullmatch(text.strip())


def plain(text: str) -> float | None:
    """Return the number of a cell of digits with at most a decimal point and an exponent, None for any other text."""
    written = re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,4})?", text.strip(), re.ASCII | re.IGNORECASE)
    value = float(text) if written else math.inf
    return value if math.isfinite(value) else None


def read_columns(
    place: str, columns: list[NumberColumn], semicolons: bool, decimal: DecimalSign | None
) -> tuple[list[list[float]], tuple[str, ...], list[Problem]]:
    """Return the numbers of each column, a note for each that is not of plain numbers, and the problems.

    `semicolons`: the table separates its cells with them, as tables with decimal commas do. `decimal`: what settles a
    cell that can be read in two ways. A column with a problem has no numbers.
    """
    read = [[_cell(line, text) for line, text in column.cells] for column in columns]
    styles = [{cell.style for cell in cells if isinstance(cell, NumberCell)} for cells in read]
    values: list[list[float]] = []
    notes: list[str] = []
    problems: list[Problem] = []
    for index, (column, cells) in enumerate(zip(columns, read, strict=True)):
        elsewhere = {style for number, known in enumerate(styles) if number != index for style in known}
        commas = "comma" in elsewhere or (semicolons and "point" not in elsewhere)
        good = [cell for cell in cells if isinstance(cell, NumberCell)]
        chosen, faults = _choose(good, commas, decimal)
        scales, more, how = _scales(column, good)
        faults = [*(fault for fault in cells if isinstance(fault, Fault)), *faults, *more]
        numbers: list[float] = []
        if not faults:
            numbers = [
                float(f"{cell.sign}{reading.digits}e{cell.power + scale}")
                for cell, reading, scale in zip(good, chosen, scales, strict=True)
            ]
            faults = _out_of_range(column, good, numbers, how)
            notes += _note(column.name, good, chosen, numbers, how)
        problems += _problems(place, column.name, faults)
        values.append(numbers)
    return values, tuple(notes), problems


def _cell(line: int, text: str) -> NumberCell | Fault:
    signs = text.translate(SAME).strip()
    found = NUMBER.fullmatch(signs) if len(signs) <= LONGEST else None
    if INFINITE.fullmatch(signs):
        return Fault("infinite", line, f"{text!r}, which is not finite; leave the cell blank or give the number")
    readings = _readings(found["digits"], bool(found["power"])) if found else ()
    if not found or not readings:
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        return Fault("unreadable", line, f"{shown!r}, which is not clearly one number; {HOW}")
    return NumberCell(line, text, found["sign"], int(found["power"] or 0), (found["unit"] or "").strip(), readings)


def _readings(digits: str, power: bool) -> tuple[Reading, ...]:
    found: list[Reading] = []
    for decimal in ".,":
        whole, mark, part = digits.partition(decimal)
        form = WHOLE.fullmatch(whole)
        if not form or not re.fullmatch(r"\d*", part, re.ASCII) or form[1] == decimal or not (whole or part):
            continue
        if mark == "," and not part:
            continue
        group = form[1] or ""
        reading = Reading(f"{whole.replace(group, '') if group else whole}.{part}", mark, group)
        if reading.digits not in [known.digits for known in found]:
            found.append(reading)
    if power and len(found) == 2 and "." in digits:  # nobody groups thousands in front of an exponent
        return tuple(reading for reading in found if reading.decimal == ".")
    return tuple(found)


def _choose(cells: list[NumberCell], commas: bool, decimal: DecimalSign | None) -> tuple[list[Reading], list[Fault]]:
    decimals = {cell.readings[0].decimal for cell in cells if len(cell.readings) == 1}
    groups = {cell.readings[0].group for cell in cells if len(cell.readings) == 1}
    styles = {cell.style for cell in cells}
    chosen, faults = [], []
    for cell in cells:
        if len(cell.readings) == 1:
            chosen.append(cell.readings[0])
            continue
        fraction, thousands = sorted(cell.readings, key=lambda reading: reading.decimal == "")
        mark = fraction.decimal
        if mark in decimals:
            chosen.append(fraction)
        elif mark in groups:
            chosen.append(thousands)
        elif decimal is not None:
            chosen.append(fraction if (mark == ",") == (decimal == "comma") else thousands)
        elif mark == "." and "comma" not in styles and ("point" in styles or not commas):
            chosen.append(fraction)
        else:
            tail = (f"e{cell.power}" if cell.power else "") + (f" {cell.unit}" if cell.unit else "")
            whole, part = f"{cell.sign}{thousands.digits.rstrip('.')}{tail}", f"{cell.sign}{fraction.digits}{tail}"
            point, comma = (whole, part) if mark == "," else (part, whole)
            what = (
                f"{cell.text!r}, which can mean {whole} or {part}; write the one that is meant, "
                f"or give --decimal point for {point}, --decimal comma for {comma}"
            )
            faults.append(Fault("ambiguous", cell.line, what))
    if faults:
        return [], faults
    shown = [(cell, reading.style) for cell, reading in zip(cells, chosen, strict=True) if reading.style]
    other = next((cell for cell, style in shown if style != shown[0][1]), None)
    if other is not None:
        first = shown[0][0]
        what = f"{other.text!r}, but {first.text!r} in line {first.line}: one has a decimal comma, the other a decimal point"
        return [], [Fault("mixed", other.line, f"{what}; write all rows alike")]
    return chosen, []


def _scales(column: NumberColumn, cells: list[NumberCell]) -> tuple[list[int], list[Fault], str]:
    """Return the power of ten that each cell's unit stands for, what is wrong with the units, and how they are read."""
    without = next((cell for cell in cells if not cell.unit), None)
    units = [cell for cell in cells if cell.unit]
    nothing = [0] * len(cells)
    powers, wrong, how = of_compute(column.name, [cell.unit for cell in units]) if units else (nothing, {}, "")
    takes = {"error": "%", "score": "%", "year": ""}.get(column.kind)
    if takes is not None:
        odd = [cell for cell in units if cell.unit != takes]
        only = f"only the unit {takes}" if takes else "no unit"
        if odd:
            why = f"but a column of {column.kind}s takes {only}; {HOW}"
            return nothing, [Fault("unit", cell.line, f"{cell.text!r}, {why}") for cell in odd], ""
    elif wrong:
        return nothing, [Fault("unit", units[at].line, f"{units[at].text!r}, {why}") for at, why in wrong.items()], ""
    if units and without is not None:
        first, other = (without, units[0]) if cells[0] is without else (units[0], without)
        what = f"{other.text!r}, but {first.text!r} in line {first.line}: only one has a {'percent sign' if takes else 'unit'}"
        return nothing, [Fault("mixed units", other.line, f"{what}; write it in all rows or in none")], ""
    if column.kind == "compute":
        return powers, [], how
    percent = bool(units) or (column.kind != "year" and header_says_percent(column.name))
    how = (SIGNS if units else "percent, as the header says") if percent else ""
    return [-2 if percent and column.kind == "error" else 0] * len(cells), [], how


def _out_of_range(column: NumberColumn, cells: list[NumberCell], numbers: list[float], how: str) -> list[Fault]:
    faults = [
        Fault("infinite", cell.line, f"{cell.text!r}, which is too large a number")
        for cell, number in zip(cells, numbers, strict=True)
        if not math.isfinite(number)
    ]
    if column.kind == "score" and how != SIGNS:
        faults += [
            Fault(
                "fraction",
                cell.line,
                f"{cell.text!r}, but scores are in percent and this looks like a fraction; write {100 * number:.10g}, "
                f"or percent signs in all rows where {cell.text} % is meant",
            )
            for cell, number in zip(cells, numbers, strict=True)
            if 0 < number <= 1
        ]
    return faults


def _note(name: str, cells: list[NumberCell], readings: list[Reading], numbers: list[float], how: str) -> list[str]:
    """Say how a column was read, with the first cell that is not a plain number; nothing of plain numbers."""
    said = [how] if how else []
    said += ["decimal commas"] if any(reading.decimal == "," for reading in readings) else []
    said += ["grouped thousands"] if any(reading.group for reading in readings) else []
    odd = (index for index, reading in enumerate(readings) if how or reading.group or reading.decimal == ",")
    shown = [f"{cells[index].text!r} is read as {numbers[index]:.15g}" for index in odd][:1]
    return [f"{name} has {' and '.join(said)}: {shown[0]}"] if said else []


def others(rows: int) -> str:
    """Say that a problem is that of other rows too; `rows` counts all of them."""
    return f" ({rows - 1} more {'row' if rows == 2 else 'rows'} like this)" if rows > 1 else ""


def _problems(place: str, name: str, faults: list[Fault]) -> list[Problem]:
    problems = []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        alike = [fault for fault in faults if fault.kind == kind]
        problems.append(Problem(f"{place}:{alike[0].line}", f"{name} is {alike[0].what}{others(len(alike))}"))
    return problems
