"""Writes tables as text: for people in any style of tabulate, as Markdown, and as CSV that a spreadsheet may open."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from efflab.foundation.visible import cell, visible

MARKDOWN = ("github", "pipe")
RAW = {"unsafehtml": "html", "latex_raw": "latex"}  # styles that leave markup in a cell alone -> those that do not

# what a spreadsheet takes for the begin of a formula, the wide forms of Asian keyboards among them; `;` parts cells in
# some countries
_FORMULA = re.compile(r"(^|;)(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20].)")
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?|inf|nan)")
# what Markdown, and GitHub's, takes for markup within a line; an underscore only at the edge of a word
_MARKUP = re.compile(r"[\\`*<|~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|(?<=\])\(|(?<=:)/(?=/)|(?<=www)\.")
_BLOCK = re.compile(r"[#>+=\[-]|\d+[.)](?=\s|$)")  # what it takes for markup where a line begins


def tabulated(
    heads: Sequence[str], body: Iterable[Sequence[Any]], style: str, align: Sequence[str] | None = None,
    widths: Sequence[int | None] | None = None,
) -> str:  # fmt: skip
    """Return a table in a tabulate style; no cell can break its line, or be read as markup or as a formula."""
    from tabulate import tabulate

    write = markdown if style in MARKDOWN else formula_free if style == "tsv" else visible
    lines = [[write(cell(value)) for value in line] for line in body]
    return tabulate(
        lines, [write(cell(head)) for head in heads], tablefmt=RAW.get(style, style), disable_numparse=True,
        colalign=align if lines else None, maxcolwidths=widths,
    )  # fmt: skip


def csv_text(heads: Sequence[str], body: Iterable[Sequence[Any]]) -> str:
    """Return lines of CSV; numbers are written as they are, and text so that no spreadsheet takes it for a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for line in (heads, *body):
        writer.writerow([_raw(value) for value in line])
    return buffer.getvalue()


def _raw(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float)) else formula_free(str(value))


def formula_free(text: str) -> str:
    """Return a text that a spreadsheet shows and does not work out: an apostrophe stands before what begins a formula."""
    if text.isalnum():  # as most cells of a large file are
        return text
    text = visible(text)
    if text[:1].isalnum() and ";" not in text:
        return text
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub(r"\1\2'", text)


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, within a line or a cell of a table."""
    return _MARKUP.sub(r"\\\g<0>", visible(text))


def markdown_line(text: str) -> str:
    """Return a text that Markdown shows as it is, where it begins a line or an item of a list."""
    shown = markdown(text.strip())
    found = _BLOCK.match(shown)
    return shown if found is None else f"{shown[: found.end() - 1]}\\{shown[found.end() - 1 :]}"


def line_beside(text: str, style: str) -> str:
    """Return a line that stands under a table of this style, and is not read as markup there either."""
    if style in MARKDOWN:
        return markdown_line(text)
    return html.escape(visible(text), quote=False) if RAW.get(style, style) == "html" else visible(text)


def markdown_code(text: str, language: str = "") -> str:
    """Return a text of several lines as a block of code that nothing in it can end."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text, keep=chr(10) + chr(9)).rstrip()}\n{fence}\n"
