"""Write the report of a study: a page that opens offline, Markdown, the data and the frontier picture."""

from __future__ import annotations

import argparse

LONGEST_NAME = 200  # characters; file systems take 255 bytes
HELP = "the report of a study: page, Markdown, data and the frontier picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab report`."""
    parser.add_argument("study", metavar="STUDY", help="a recipe, a study.json, or a folder that holds one")
    parser.add_argument(
        "--inferences", type=float, default=1e9, metavar="N", help="inferences of the life-cycle table (default: 1e9)"
    )
    parser.add_argument(
        "--library",
        metavar="FILE",
        help="share one file among several pages: FILE (a .js file) gets what draws the charts, and each page is 0.4 MB smaller",
    )
    parser.add_argument("--out", metavar="FOLDER", help="where to write it (default: reports/<name of the study>)")


def run(args: argparse.Namespace) -> int:
    """Write the report and name its files."""
    import math
    from pathlib import Path

    from efflab.cli.compare import load
    from efflab.foundation.errors import RequestError
    from efflab.foundation.visible import visible
    from efflab.reporting.report import write_report

    if not (args.inferences >= 1 and math.isfinite(args.inferences)):
        raise RequestError(f"--inferences must be a number from 1 on, not {args.inferences:g}")
    study = load(args.study)
    folder = Path(args.out) if args.out else Path("reports") / _folder_name(study["name"])
    written = write_report(study, folder, args.inferences, Path(args.library) if args.library else None)
    print("\n".join(map(visible, [*written.headlines, "", *map(str, written.paths)])))
    return 0


def _folder_name(name: str) -> str:
    """Return the name of a study as that of a folder; raise RequestError for one that no recipe may have."""
    import re

    from efflab.foundation.errors import RequestError
    from efflab.foundation.wording import NAME, shown

    if not re.fullmatch(NAME.rstrip("$"), name) or len(name) > LONGEST_NAME:
        raise RequestError(f"the study's name {shown(name)} cannot be that of a folder; name one: --out FOLDER")
    return name
