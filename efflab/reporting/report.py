"""Writes the report of a study: one offline page, Markdown, pictures, and the data behind them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from efflab.comparison.columns import AXES
from efflab.comparison.compare import assess
from efflab.comparison.row import Row
from efflab.comparison.shifts import Placed
from efflab.foundation.errors import RequestError
from efflab.foundation.files import write_atomically
from efflab.foundation.table_text import csv_text, markdown_code, markdown_line
from efflab.foundation.visible import cell
from efflab.foundation.wording import first_of, listed
from efflab.records.study import Study, save_study
from efflab.reporting.charts.figures import frontier_chart, frontier_view, views
from efflab.reporting.footer import footer
from efflab.reporting.headlines import headlines, noise_sentence
from efflab.reporting.layout import comparison
from efflab.reporting.page import Drawn, page
from efflab.reporting.section import Asked, Section, markdown, shortened
from efflab.reporting.sections.adaptive import adaptive_time, work_by_input
from efflab.reporting.sections.axes import axes
from efflab.reporting.sections.composition import composition
from efflab.reporting.sections.fidelity import fidelity
from efflab.reporting.sections.field import field, gained_area
from efflab.reporting.sections.law import law
from efflab.reporting.sections.life import life
from efflab.reporting.sections.linter import linter
from efflab.reporting.sections.meaning import paper_targets, years
from efflab.reporting.sections.realisation import realisation
from efflab.reporting.sections.search import search
from efflab.reporting.sections.supernet import amortisation, supernet
from efflab.reporting.table import foremost, left_out, render

MOST_DRAWS, FEWEST_DRAWS = 2000, 400
WORK = 4_000_000  # records x draws: time and memory go with it, so larger studies share fewer draws
SCHEMA = 1
MOST_VIEWS = 60  # pictures to choose from
SECTIONS: tuple[Callable[[Asked], Section | None], ...] = (
    search, axes, supernet, amortisation, realisation, work_by_input, adaptive_time, composition, law, field, gained_area, years,
    paper_targets, life, fidelity, linter,
)  # fmt: skip
PLACE = ("study", "variant", "role", "baseline", "family", "task", "backend", "device", "batch_size", "machine")


class WrittenReport(NamedTuple):
    """The files of a report, and its headline sentences."""

    paths: list[Path]
    headlines: list[str]


def write_report(study: Study, folder: Path, inferences: float = 1e9, library: Path | None = None) -> WrittenReport:
    """Write the files of a report.

    library: a file that pages share, which gets what draws their charts; without it, each page holds that itself.

    All are written beside their places and moved there at the end, so a full disk leaves an older report as it was.
    Raises RequestError where nothing was measured, the drawing library is missing, or the folder cannot be written.
    """
    asked = Asked(study, assess(study, AXES, draws_for(study)), inferences)
    drawn = _draw(asked.rows)
    sections = [section for section in (make(asked) for make in SECTIONS) if section]
    everything = [*headlines(asked.rows), noise_sentence(asked.rows)]
    told = first_of(everything, "report.json holds all")
    short, origin = [shortened(section) for section in sections], provenance(study, asked.assessment.draws)
    shown = foremost(asked.rows)
    texts = {
        "index.html": page(study, asked.rows, shown, told, short, drawn, origin, _address(library, folder)),
        "report.md": _markdown(study, asked.rows, shown, told, short, origin),
        "report.json": json.dumps(_data(study, everything, sections), indent=1, allow_nan=False) + "\n",
        "rows.csv": render(asked.rows, style="csv") + "\n",
        "shifts.csv": _shifts(asked.assessment.placed),
        "frontier.svg": drawn.picture,
    }
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
            beside = Path(part)
            for name, text in texts.items():
                (beside / name).write_text(text, encoding="utf-8")
            (beside / "frontier.png").write_bytes(drawn.pixels)
            save_study(study, beside / "study.json")
            names = [
                *texts,
                "frontier.png",
                *(name for name in ("samples.npz", "study.json") if (beside / name).exists()),
            ]
            if library is not None:
                library.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(library, drawn.library)
            for name in names:
                (beside / name).replace(folder / name)
    except OSError as error:
        if fresh:
            with contextlib.suppress(OSError):
                folder.rmdir()
        reason = (error.strerror or str(error)).lower()
        raise RequestError(f"cannot write the report to {folder}: {reason}; what was there is unchanged") from error
    return WrittenReport([folder / name for name in names], told)


def _address(library: Path | None, folder: Path) -> str:
    """Return where a page in `folder` finds the shared library, "" if there is none."""
    if library is None:
        return ""
    return quote(Path(os.path.relpath(library.resolve(), folder.resolve())).as_posix())


def _draw(rows: list[Row]) -> Drawn:
    chart = _visible(frontier_chart(rows).to_dict())
    try:
        import vl_convert
    except ImportError as error:
        raise RequestError('pictures need vl-convert-python; pip install "efflab[report]"') from error
    wanted = chart["$schema"].rsplit("/", 1)[-1].removeprefix("v").removesuffix(".json")
    known = vl_convert.get_vegalite_versions()
    version = next((one for one in known if one == ".".join(wanted.split(".")[:2])), None)
    # the schema of such panels has just been checked, and is slow to check
    found = {
        view.title: _short(_visible(frontier_view(rows, view).to_dict(validate=False)))
        for view in views(rows)[:MOST_VIEWS]
    }
    return Drawn(
        picture=vl_convert.vegalite_to_svg(chart, vl_version=version),
        pixels=vl_convert.vegalite_to_png(chart, vl_version=version, scale=1.5),
        views=found,
        first=vl_convert.vegalite_to_svg(next(iter(found.values())), vl_version=version),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version),
    )


def _visible(value: Any) -> Any:
    """Return a specification with texts that can be drawn: what draws refuses control characters."""
    if isinstance(value, dict):
        return {key: _visible(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_visible(one) for one in value]
    return cell(value) if isinstance(value, str) else value


def _short(value: Any) -> Any:
    """Return a specification with numbers of seven digits, which halves its size."""
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def draws_for(study: Study) -> int:
    """Return how many draws of the bootstrap a report takes: fewer for a study of more than 2,000 records."""
    return min(MOST_DRAWS, max(FEWEST_DRAWS, WORK // max(1, len(study["records"]))))


def provenance(study: Study, draws: int) -> list[str]:
    """Return lines that say where the numbers come from."""
    lines = [f"study {study['name']}, efflab {study['efflab']}, commit {study['commit']}"]
    lines += [f"data {task}: {digest}" for task, digest in study["data"].items()]
    seeds = sorted({record["seed"] for record in study["records"]})
    lines.append(f"seeds {listed(map(str, seeds))}; {draws} bootstrap draws")
    for name, machine in study["machines"].items():
        facts = ", ".join(f"{key} {value}" for key, value in machine.items() if isinstance(value, (str, int, float)))
        lines.append(f"machine {name}: {facts}")
    return lines


def _data(study: Study, told: list[str], sections: list[Section]) -> dict[str, Any]:
    facts = {section.name: {"sentences": section.sentences, "rows": section.data} for section in sections}
    return {"schema": SCHEMA, "study": study["name"], "commit": study["commit"], "headlines": told, "sections": facts}


def _shifts(placed: list[Placed]) -> str:
    """Return all shifts on all axes as CSV, a line for each row and axis, empty where there is no number."""
    ends = ("", "_low", "_high", "_total", "_total_low", "_total_high", "_of_baseline", "_stair", "_over", "_gain",
            "_gain_low", "_gain_high", "_dominates", "_flags")  # fmt: skip
    heads = [*PLACE, "axis", *("shift" + end for end in ends)]
    body = []
    for one in placed:
        values = (one.row[f"shift_{one.axis}{end}"] for end in ends)
        told = (f"{value:.6g}" if isinstance(value, float) else value for value in values)
        body.append([*(one.row[name] for name in PLACE), one.axis, *told])
    return csv_text(heads, body)


def _markdown(
    study: Study, rows: list[Row], shown: list[Row], told: list[str], sections: list[Section], origin: list[str]
) -> str:  # fmt: skip
    parts = [
        f"# {markdown_line(study['name'])}", _listed(told), "![Error against work and time](frontier.svg)",
        comparison(shown, "github")[0], _listed([*left_out(rows, shown), *footer(rows)]), *map(markdown, sections),
        f"## Where the numbers come from\n\n{_listed(origin)}",
        f"## Recipe\n\n{markdown_code(study['recipe'], 'yaml')}",
    ]  # fmt: skip
    return "\n\n".join(parts)


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {markdown_line(line)}" for line in lines)
