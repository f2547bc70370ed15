"""A section of a report: a title, sentences, a table and notes, as plain data that a page and Markdown both render."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from efflab.comparison.compare import Assessment
from efflab.comparison.row import Row
from efflab.foundation.table_text import markdown_line, tabulated
from efflab.records.study import Study
from efflab.reporting.numbers import ratio_text
from efflab.statistics import Interval

MOST_LINES, MOST_SENTENCES, MOST_COLUMNS = 400, 100, 40  # of a section on the page


@dataclass(frozen=True)
class Section:
    """What one part of a report says; `data` are the same facts with every digit."""

    name: str  # of its anchor, and its key in report.json
    title: str
    sentences: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    data: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a report is made of: a study, its rows and shifts on all axes, and what the reader asked for."""

    study: Study
    assessment: Assessment
    inferences: float = 1e9

    @property
    def rows(self) -> list[Row]:
        """The rows, with the shift columns of all axes filled."""
        return self.assessment.rows


def shortened(section: Section) -> Section:
    """Return a section with as many lines as people read; the notes say how many more its data hold."""
    lines, told = len(section.table) - MOST_LINES, len(section.sentences) - MOST_SENTENCES
    columns = len(section.heads) - MOST_COLUMNS
    notes = [f"{count:,} more {what} are left out here; {where}." for count, what, where in (
        (lines, "lines", "report.json holds all" if section.data else "shifts.csv holds all"),
        (told, "sentences", "report.json holds all"),
        (columns, "columns", "report.json holds all"),
    ) if count > 0]  # fmt: skip
    if not notes:
        return section
    return replace(
        section,
        sentences=section.sentences[:MOST_SENTENCES],
        heads=section.heads[:MOST_COLUMNS],
        table=tuple(line[:MOST_COLUMNS] for line in section.table[:MOST_LINES]),
        notes=(*section.notes, *notes),
    )


def multiplier(interval: Interval) -> str:
    """Return M with its interval, as people read it."""
    return ratio_text(interval.value, interval.low, interval.high)


def ends(interval: Interval) -> dict[str, float]:
    """Return an interval as data."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def markdown(section: Section) -> str:
    """Return a section as Markdown."""
    parts = [f"## {markdown_line(section.title)}"]
    parts += ["\n".join(f"- {markdown_line(sentence)}" for sentence in section.sentences)] if section.sentences else []
    parts += [tabulated(section.heads, section.table, "github")] if section.table else []
    parts += ["\n".join(map(markdown_line, section.notes))] if section.notes else []
    return "\n\n".join(parts)


def tally(words: Iterable[str]) -> str:
    """Return how often each word occurs: 3 parallel, 1 undecided."""
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())
