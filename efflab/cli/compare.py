"""Print the comparison table of one study or several: every variant beside its baseline, with intervals.

--where and --fail-if take comparisons of columns with numbers and quoted words, joined by and, or, not; `in ('a', 'b')`
and + - * / work too. Columns go by their names in the csv or by the table's headings: batch, points, ms, theory,
realised, shift. quality is a fraction there: 0.88 for 88 %.
On a terminal narrower than the table whole columns are left out, and named below it; a pipe gets them all. Kept first is
the variant, then what fits of: speed-up, points, ms, quality, shift, theory, realised.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from efflab.comparison.expressions import Condition
    from efflab.comparison.row import Row

HELP = "the comparison table of a study, or a gate over it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab compare`."""
    add = parser.add_argument
    add("studies", nargs="+", metavar="STUDY", help="a recipe, a study.json, or a folder that holds one")
    add("--where", metavar="EXPR", help="keep rows that hold, e.g. 'backend == \"torch\" and batch == 1'")
    add("--sort", metavar="COLUMN", help="sort by a column; a leading - sorts descending (--sort=-speedup)")
    add("--columns", metavar="A,B,..", help="columns to print, or `all`; an unknown one lists them")
    add("--pareto", action="store_true", help="keep rows that no other beats in error and latency")
    add("--format", default="simple", help="any tabulate format, csv or json (default: simple)")
    add(
        "--fail-if",
        metavar="EXPR",
        help="exit with 1 if a printed row holds, e.g. 'speedup_low < 1.2', or none can be judged",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table; return 1 if the gate of --fail-if caught a row, or could judge none."""
    from efflab.comparison.draws import MOST_DRAWS
    from efflab.comparison.expressions import condition, sort_rows
    from efflab.comparison.remembered import compared, kept_in
    from efflab.foundation.errors import RequestError
    from efflab.records.quality import SHARE
    from efflab.reporting.table import check_style, choose

    # everything the user wrote is checked before the work of reading studies
    for option in ("where", "sort", "columns", "fail_if"):
        given = getattr(args, option)
        if given is not None and not given.strip():
            raise RequestError(f"--{option.replace('_', '-')} is empty; leave it out or say what it is to do")
    columns = choose(args.columns)
    keep = condition(args.where, shares=False) if args.where else None
    caught_by = condition(args.fail_if, shares=False) if args.fail_if else None
    check_style(args.format)
    if args.sort:
        sort_rows([], args.sort)

    with _no_collection():
        assessed = compared(_files(args.studies), _axes(args, columns), kept_in())
    everything: list[Row] = assessed.rows
    if all(row.quality.unit == SHARE for row in everything):
        for text in filter(None, (args.where, args.fail_if)):
            condition(text)  # refuses a fraction that is compared with per cents
    found = [row for row in everything if not keep or keep(row)]
    if args.pareto:
        found = [row for row in found if row.pareto]
    if args.sort:
        found = sort_rows(found, args.sort)
    hints = keep.hints(everything) if keep and not found else []
    nothing = "; ".join(["no row is left", *(hints or ["each part of --where holds for some row, but not for one and the same"])
                         ] if keep else ["no row is left"])  # fmt: skip
    if not found and caught_by:
        raise RequestError(f"{nothing}: --fail-if has nothing to judge")
    _print(found, everything, columns, args.format, inline=bool(args.sort or args.pareto), nothing=nothing)
    if found and args.format not in ("csv", "json") and assessed.draws < MOST_DRAWS:
        print(
            f"intervals: {assessed.draws} draws of the bootstrap, for so long a table; `efflab report` takes {MOST_DRAWS}"
        )
    return _gate(found, caught_by) if caught_by else 0


@contextmanager
def _no_collection() -> Iterator[None]:
    """Leave garbage alone: there is none, and looking for it in ten thousand records takes a tenth of the time."""
    import gc

    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _axes(args: argparse.Namespace, columns: list[str] | None) -> list[str]:
    """Return the axes whose shifts are asked for: working out all of them takes several times as long."""
    from efflab.comparison.columns import AXES
    from efflab.reporting.table import DEFAULT

    if columns is None and args.format in ("csv", "json"):
        return list(AXES)
    said = " ".join([*(columns or DEFAULT), args.where or "", args.sort or "", args.fail_if or ""])
    # "shift" alone is the heading of the shift in time
    return [name for name in AXES if f"shift_{name}" in said or (name == "latency" and "shift" in said)]


def _print(
    found: list[Row], everything: list[Row], columns: list[str] | None, style: str, inline: bool, nothing: str
) -> None:
    """Print the table and the lines under it; dense rows stand among the others if `inline`, else in a block beneath."""
    import shutil
    import sys
    import textwrap

    from efflab.foundation.table_text import line_beside
    from efflab.reporting.footer import footer
    from efflab.reporting.layout import comparison, fitted, left_out_line
    from efflab.reporting.table import DEFAULT, render

    if style in ("csv", "json") or not found:
        print(render(found, columns, style) if style in ("csv", "json") else nothing)
        if not found and style in ("csv", "json"):
            print(nothing, file=sys.stderr)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if columns is not None:
        table, left_out = render(found, columns, style), list[str]()
    else:
        table, left_out = (fitted if inline else comparison)(found, style, width)
    shown = [name for name in columns or DEFAULT if name not in left_out]
    lines = footer(found, everything, shown)
    if left_out and width:
        lines.insert(0, left_out_line(left_out, width))
    print(table + "\n")
    for line in (line_beside(line, style) for line in lines):
        print(textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False) if width else line)


def _gate(found: Sequence[Row], caught_by: Condition) -> int:
    """Name on stderr the rows that are caught and those that cannot be judged.

    Return 1 if any is caught, all cannot be judged, or any cannot since a control failed.
    """
    import sys
    import textwrap

    from efflab.foundation.visible import visible

    doubted = [row for row in found if _in_doubt(row, caught_by)]
    judged = [(row, caught_by(row)) for row in found if row not in doubted]
    for row in (row for row, held in judged if held):
        print(visible(f"gate failed: {_place(row)} ({row.place.machine}): {caught_by.text}"), file=sys.stderr)
    unknown: dict[str, list[str]] = {}
    for row in doubted:
        unknown.setdefault("the control of its group failed, so its speed is not known", []).append(_place(row))
    for row in (row for row, held in judged if held is None):
        unknown.setdefault(_why(row, caught_by), []).append(_place(row))
    for why, places in unknown.items():
        line = visible(f"not judged, {why}: {'; '.join(places)}")
        print(textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False), file=sys.stderr)
    if doubted or all(held is None for _, held in judged):
        what = "a control failed" if doubted else "no row could be judged"
        print(f"gate failed: {what}: {caught_by.text}", file=sys.stderr)
        return 1
    return 1 if any(held for _, held in judged) else 0


def _in_doubt(row: Row, caught_by: Condition) -> bool:
    """Say whether a gate rests on a speed that the control of the row's group gives the lie to."""
    from efflab.comparison.columns import OF_SPEED
    from efflab.statistics import CONTROL_FAILED

    asks = any(name in OF_SPEED for name in caught_by.names())
    return asks and row.against.speed_verdict == CONTROL_FAILED


def _place(row: Row) -> str:
    return f"{row.variant} on {row.place.briefly}"


def _why(row: Row, caught_by: Condition) -> str:
    if row.status != "ok":
        return f"{row.status} ({row.reason})"
    missing = ", ".join(caught_by.missing(row))
    return f"{row.role} without {missing}" if missing else "the expression divides by zero"


def _files(names: Sequence[str]) -> list[Path]:
    """Return the files of the studies; raise RequestError for one that is given twice, which would double its rows."""
    from efflab.comparison.remembered import digest_of_study
    from efflab.foundation.errors import Problem, RequestError

    files: dict[str, tuple[str, Path]] = {}
    for name in names:
        file = study_file(name)
        try:
            digest = digest_of_study(file)
        except OSError as error:
            raise RequestError(Problem(str(file), (error.strerror or str(error)).lower())) from error
        if digest in files:
            raise RequestError(f"{files[digest][0]} and {name} are the same study; give it once")
        files[digest] = (name, file)
    return [file for _, file in files.values()]


def load(name: str) -> Any:
    """Return the study that a recipe, a study.json or a folder names; raise RequestError if there is none."""
    from efflab.records.study import load_study

    return load_study(study_file(name))


def study_file(name: str) -> Path:
    """Return the file of the study that a recipe, a study.json or a folder names; raise RequestError if there is none."""
    from pathlib import Path

    from efflab.foundation.errors import RequestError
    from efflab.records.store import study_path

    if not name.strip():
        raise RequestError(
            f"the name of a study is empty; give a recipe, a study.json or a folder that holds one{_samples()}"
        )
    path = Path(name)
    if path.is_dir() and (path / "study.json").exists():
        return path / "study.json"
    if path.suffix == ".json":
        return path
    try:
        return study_path(name)
    except RequestError as error:
        raise RequestError(f"{error}{_samples()}") from error


def _samples() -> str:
    """Name the folders here that hold a study, as the committed samples do."""
    from pathlib import Path

    found = sorted(str(path.parent) for path in Path("reports").glob("*/study.json"))
    return f"; a study lies in {', '.join(found)}" if found else ""
