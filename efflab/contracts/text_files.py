"""Labelled texts in files that people have: CSV, TSV and JSON Lines, read and checked line by line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from efflab.foundation.config import Settings
from efflab.foundation.errors import Problem, RequestError, nearest
from efflab.foundation.outside import content_of, parsed_json, why

SUFFIXES = {".csv": ",", ".tsv": "\t", ".txt": "\t"}  # of tables, with what parts their fields
JSON_LINES = (".jsonl", ".ndjson", ".json")
MOST_TEXT = 1_000_000_000  # bytes of a file
MOST_PROBLEMS = 5  # that one message lists


class TextColumns(Settings):
    """Where a file's lines hold the text and the label: names of columns (or JSON keys), or numbers from 0 without a header."""

    text: Annotated[
        Annotated[int, Field(ge=0)] | str,
        Field(
            description="Column (or JSON key) of the text: its name, or its number from 0 in a file without a header."
        ),
    ] = "text"
    label: Annotated[
        Annotated[int, Field(ge=0)] | str,
        Field(
            description="Column (or JSON key) of the label: its name, or its number from 0 in a file without a header."
        ),
    ] = "label"


class LabelledText(NamedTuple):
    """One example, and the line of the file on which it stands."""

    text: str
    label: str
    line: int


def read_texts(path: Path, columns: TextColumns) -> list[LabelledText]:
    """Return the examples of a file; its suffix says what it is (.csv, .tsv, .txt, .jsonl).

    Raises RequestError that names file and line: not UTF-8, a missing column, a line without a text or a label, no lines.
    """
    text = _decoded(path)
    if path.suffix.lower() in JSON_LINES:
        rows = _json_rows(path, text, columns)
    elif path.suffix.lower() in SUFFIXES:
        rows = _table_rows(path, text, SUFFIXES[path.suffix.lower()], columns)
    else:
        known = ", ".join((*SUFFIXES, *JSON_LINES))
        raise RequestError(Problem(str(path), f"the file's suffix must say what it is: one of {known}"))
    found, problems = list[LabelledText](), list[Problem]()
    for line, text_value, label in rows:
        if not text_value.strip():
            problems.append(Problem(f"{path}:{line}", "the text is empty; fill it in or take the line out"))
        elif not label.strip():
            problems.append(Problem(f"{path}:{line}", "the label is empty; fill it in or take the line out"))
        else:
            found.append(LabelledText(text_value.strip(), label.strip(), line))
    if problems:
        more = [Problem(str(path), f"{len(problems) - MOST_PROBLEMS} more lines are like these")]
        raise RequestError(problems[:MOST_PROBLEMS] + more * (len(problems) > MOST_PROBLEMS))
    if not found:
        raise RequestError(Problem(str(path), "the file holds no examples"))
    return found


def _decoded(path: Path) -> str:
    try:
        raw = content_of(path, MOST_TEXT)
    except OSError as error:
        raise RequestError(Problem(str(path), f"the file cannot be read: {why(error)}")) from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw[:4096]:
        raise RequestError(Problem(str(path), "the file is not UTF-8 (UTF-16?); save it as UTF-8"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        what = f"the file is not UTF-8 from here on (byte 0x{raw[error.start]:02x}); save all of it as UTF-8"
        raise RequestError(Problem(f"{path}:{line}", what)) from error


def _table_rows(path: Path, text: str, mark: str, columns: TextColumns) -> Iterator[tuple[int, str, str]]:
    # quotes have no meaning in tab-separated corpora; in CSV they do
    quoting: Literal[0, 3] = csv.QUOTE_NONE if mark == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, quoting=quoting, strict=True)
    named = [one for one in (columns.text, columns.label) if isinstance(one, str)]
    header: list[str] | None = None
    places: list[int] = []
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = f"the line cannot be read as CSV ({error})"
            if "field limit" in str(error):
                what = "a field is longer than 131,072 characters; close the quotes, or shorten the text"
            raise RequestError(Problem(f"{path}:{start}", what)) from error
        if not fields:
            continue
        if named and header is None:
            header = [one.strip() for one in fields]
            places = [_place(path, start, header, one) for one in (columns.text, columns.label)]
            continue
        if not places:
            places = [int(columns.text), int(columns.label)]
        wanted = len(header) if header else max(places) + 1
        if len(fields) < wanted:
            what = f"the line has too few fields: {len(fields)} of {wanted}"
            raise RequestError(Problem(f"{path}:{start}", what))
        if header and len(fields) > wanted:
            what = f"the line has too many fields: {len(fields)}, the header has {wanted}"
            raise RequestError(Problem(f"{path}:{start}", f"{what}; put a text that holds {mark!r} in quotes"))
        yield start, fields[places[0]], fields[places[1]]


def _place(path: Path, line: int, header: list[str], column: int | str) -> int:
    if isinstance(column, int):
        if column >= len(header):
            raise RequestError(Problem(f"{path}:{line}", f"there is no column {column}: the header has {len(header)}"))
        return column
    if header.count(column) != 1:
        what = f"the header names no column {column!r} ({', '.join(header)}); {nearest(column, header)}"
        if len(header) == 1 and ";" in header[0]:
            what = "the fields are parted by semicolons; write the file with commas, or with tabs as .tsv"
            raise RequestError(Problem(f"{path}:{line}", what))
        if column in header:
            what = f"the header names {header.count(column)} columns {column!r}"
        way = "say which columns hold text and label with `columns`; numbers from 0 are for files without a header"
        raise RequestError(Problem(f"{path}:{line}", f"{what}; {way}"))
    return header.index(column)


def _json_rows(path: Path, text: str, columns: TextColumns) -> Iterator[tuple[int, str, str]]:
    for line, one in enumerate(text.split("\n"), 1):
        if not one.strip():
            continue
        place = f"{path}:{line}"
        try:
            row = parsed_json(one)
        except ValueError as error:
            raise RequestError(Problem(place, f"the line is no JSON ({error}); each line holds one object")) from error
        if not isinstance(row, Mapping):
            raise RequestError(Problem(place, "the line holds no JSON object with a text and a label"))
        yield line, _json_text(place, row, columns.text), _json_label(place, row, columns.label)


def _json_text(place: str, row: Mapping[str, Any], key: int | str) -> str:
    value = _json_value(place, row, key)
    if not isinstance(value, str):
        raise RequestError(Problem(place, f"{key} must be a text, not {json.dumps(value)[:40]}"))
    return value


def _json_label(place: str, row: Mapping[str, Any], key: int | str) -> str:
    value = _json_value(place, row, key)
    if isinstance(value, bool | int | str):
        return str(value)
    raise RequestError(Problem(place, f"{key} must be a text or a whole number, not {json.dumps(value)[:40]}"))


def _json_value(place: str, row: Mapping[str, Any], key: int | str) -> Any:
    if key not in row:
        keys = [str(one) for one in row]
        what = f"the object has no {key!r} ({', '.join(keys)}); {nearest(str(key), keys)}"
        raise RequestError(Problem(place, f"{what}; say with `columns` which keys hold text and label"))
    return row[str(key)]
