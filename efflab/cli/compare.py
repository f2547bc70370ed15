"""Print the comparison table of one study or several: every variant beside its baseline, with intervals."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "the comparison table of a study, or a gate over it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab compare`."""
    add = parser.add_argument
    add("studies", nargs="+", metavar="STUDY", help="a recipe, a study.json, or a folder that holds one")
    add("--where", metavar="EXPR", help="keep rows that hold, e.g. 'backend == \"torch\" and batch_size == 1'")
    add("--sort", metavar="COLUMN", help="sort by a column; a leading - sorts descending (--sort=-speedup)")
    add("--columns", metavar="A,B,..", help="columns to print, or `all`; an unknown one lists them")
    add("--pareto", action="store_true", help="keep rows that no other beats in error and latency")
    add("--format", default="simple", help="any tabulate format, csv or json (default: simple)")
    add("--fail-if", metavar="EXPR", help="exit with 1 if a printed row holds, e.g. 'speedup_low < 1.2'")


def run(args: argparse.Namespace) -> int:
    """Print the table; return 1 if the gate of --fail-if caught a row."""
    import sys

    from efflab.errors import RequestError
    from efflab.reporting.columns import COLUMNS
    from efflab.reporting.gate import condition, sort_rows
    from efflab.reporting.rows import rows
    from efflab.reporting.table import choose, footer, render

    # everything the user wrote is checked before the work of reading studies
    columns = choose(args.columns)
    keep = condition(args.where, COLUMNS) if args.where else None
    caught_by = condition(args.fail_if, COLUMNS) if args.fail_if else None
    render([], columns, args.format)
    if args.sort:
        sort_rows([dict.fromkeys(COLUMNS)], args.sort)

    everything: list[dict[str, Any]] = rows([load(name) for name in args.studies])
    found = [row for row in everything if not keep or keep(row)]
    if args.pareto:
        found = [row for row in found if row["pareto"]]
    if args.sort:
        found = sort_rows(found, args.sort)
    if not found and caught_by:
        raise RequestError("no row is left for --fail-if to judge")
    print(render(found, columns, args.format))
    if args.format not in ("csv", "json"):
        print("\n" + "\n".join(footer(found, everything)) if found else "\nno row is left")
    caught = [row for row in found if caught_by and caught_by(row)]
    for row in caught:
        place = f"{row['variant']} on {row['backend']} batch {row['batch_size']} ({row['machine']})"
        print(f"gate failed: {place}: {args.fail_if}", file=sys.stderr)
    return 1 if caught else 0


def load(name: str) -> Any:
    """Return the study that a recipe, a study.json or a folder names; raise RequestError if there is none."""
    from pathlib import Path

    from efflab.study import load_study

    path = Path(name)
    if path.is_dir() and (path / "study.json").exists():
        return load_study(path / "study.json")
    if path.suffix == ".json":
        return load_study(path)
    from efflab.store import study_path

    return load_study(study_path(name))
