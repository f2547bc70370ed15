"""Reference records of published models, and the law by which error falls with compute in any table of points."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efflab.frontier.points import Points
    from efflab.frontier.regression import Regression

HELP = "list published models; fit error on compute to any CSV table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("ls", help="list the areas of reference records").add_argument(
        "--format", default="simple", help="a tabulate format, csv or json"
    )
    show = actions.add_parser("show", help="show an area's records with their sources")
    show.add_argument("area", help="area, see `efflab frontier ls`")
    show.add_argument("--format", default="simple", help="a tabulate format, csv or json")
    fit = actions.add_parser("fit", help="fit a law to a CSV file")
    fit.add_argument(
        "file", help="table with a header, separated by commas, semicolons or tabs, or an area of `efflab frontier ls`"
    )
    fit.add_argument(
        "--compute",
        required=True,
        metavar="COL",
        help="column of compute; a unit behind its numbers (3.5 GFLOPs, 12 M) is worked in, if all rows have one",
    )
    quality = fit.add_mutually_exclusive_group(required=True)
    quality.add_argument(
        "--error",
        metavar="COL",
        help="column of errors: fractions, or percent with a sign in all rows (0.5%%) or in the header",
    )
    quality.add_argument("--score", metavar="COL", help="column of scores in percent; error = 1 - score / 100")
    fit.add_argument(
        "--decimal",
        choices=("point", "comma"),
        help="what 1,234 and 1.234 mean where the column does not show it; such a column is refused otherwise",
    )
    fit.add_argument("--year", metavar="COL", help="column of years: adds algorithmic progress at equal compute")
    fit.add_argument("--cluster", metavar="COL", help="column by which points are drawn together in the bootstrap")
    fit.add_argument(
        "--form", choices=("power", "exponential"), default="power", help="log10(error) or 1/error on log10(compute)"
    )
    kind = fit.add_mutually_exclusive_group()
    kind.add_argument("--quantile", type=float, metavar="Q", help="quantile regression, 0.1 for a frontier")
    kind.add_argument("--pareto", action="store_true", help="only the points that no other beats in compute and error")
    kind.add_argument("--floor", action="store_true", help="power law with an irreducible error")
    fit.add_argument("--draws", type=int, default=2000, metavar="N", help="bootstrap draws (default 2000)")
    fit.add_argument(
        "--at",
        type=float,
        action="append",
        default=[],
        metavar="C",
        help="predict the error at this compute (repeatable)",
    )
    fit.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    return {"ls": _ls, "show": _show, "fit": _fit}[args.action](args)


def _ls(args: argparse.Namespace) -> int:
    from efflab.cli._tables import show
    from efflab.frontier.reference import areas, reference

    rows = []
    for name in areas():
        known = reference(name)
        counts = {key: sum(bool(row[key]) for row in known.rows) for key in ("macs", "training_flop")}
        rows.append({"area": name, "models": len(known.rows), **counts, "what": known.notes[0]})
    show(rows, args.format, ["area", "models", "macs", "training_flop", "what"])
    return 0


def _show(args: argparse.Namespace) -> int:
    from efflab.cli._tables import show
    from efflab.frontier.reference import reference

    known = reference(args.area)
    show(known.rows, args.format, list(known.rows[0]))
    if args.format not in ("csv", "json"):
        print("\n" + "\n".join(known.notes))
        for row in known.left_out:
            print(f"left out: {row['model']}: {row['reason']}")
    return 0


def _fit(args: argparse.Namespace) -> int:
    from efflab.foundation.errors import Problem, RequestError
    from efflab.frontier.fit import FEW
    from efflab.frontier.points import read_points
    from efflab.frontier.reference import areas, record_file

    if args.floor and (args.year or args.form != "power"):
        raise RequestError("--floor is a form of its own; leave out --year and --form")
    if not 100 <= args.draws <= 100_000:
        raise RequestError("--draws must lie between 100 and 100000")
    if any(not 0 < compute < float("inf") for compute in args.at):
        raise RequestError("--at takes finite compute above 0")
    if not args.file.strip():
        raise RequestError("the file's name is empty; give a CSV file or an area of `efflab frontier ls`")
    file = record_file(args.file) if args.file in areas() else Path(args.file)
    points = read_points(
        file,
        args.compute,
        args.error or args.score,
        args.year,
        args.cluster,
        percent=bool(args.score),
        decimal=args.decimal,
    )
    try:
        facts = _floored(points) if args.floor else _fitted(points, args)
    except RequestError as error:
        raise RequestError([Problem(str(file), problem.what) for problem in error.problems]) from error
    facts = {
        "file": file.name, "rows": points.rows, "left_out": points.left_out, "repeated": points.repeated,
        "few": len(points.error) < FEW, "notes": list(points.notes),
    } | facts  # fmt: skip
    print(json.dumps(facts, indent=1) if args.format == "json" else _text(facts, args.compute))
    return 0


def _fitted(points: Points, args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from efflab.foundation.errors import RequestError
    from efflab.frontier.regression import bootstrap, intervals, least_squares, pareto, quantile_fit

    def refit(chosen: np.ndarray) -> Regression:
        x, e = points.compute[chosen], points.error[chosen]
        year = points.year[chosen] if points.year is not None else None
        if args.pareto:
            front = pareto(x, e)
            x, e, year = x[front], e[front], year[front] if year is not None else None
        if args.quantile is not None:
            return quantile_fit(x, e, args.quantile, year, args.form)
        return least_squares(x, e, year, args.form)

    if points.cluster is not None and len(set(points.cluster)) < 2:
        raise RequestError(f"all points are of one cluster in {args.cluster!r}; leave --cluster out")
    everything = np.arange(len(points.compute))
    fit = refit(everything)
    draws = bootstrap(refit, points.cluster or everything.tolist(), args.draws)
    found = intervals(fit, draws)
    # with fewer, the interval would be that of the draws that happen to carry a fit
    carried = 2 * len(draws) >= args.draws
    used = points.compute[pareto(points.compute, points.error)] if args.pareto else points.compute
    facts: dict[str, Any] = {
        "form": fit.form, "n": fit.n, "a": fit.a, "b": fit.b, "r2": fit.r2, "se_a": _number(fit.errors[0]),
        "se_b": _number(fit.errors[1]), "b_interval": [found["b"].low, found["b"].high] if carried else None, "power": fit.power,
        "compute_range": [float(used.min()), float(used.max())], "draws": len(draws), "asked": args.draws,
        "clusters": len(set(points.cluster)) if points.cluster else None,
        "significant": carried and bool(found["b"].high < 0 if fit.form == "power" else found["b"].low > 0),
    }  # fmt: skip
    if fit.g is not None:
        progress = found["progress_dex"]
        facts |= {
            "g": fit.g, "se_g": _number(fit.errors[2]), "g_interval": [found["g"].low, found["g"].high] if carried else None,
            "progress_dex_per_year": progress.value,
            "progress_interval": [progress.low, progress.high] if carried else None,
        }  # fmt: skip
    year = float(np.max(points.year)) if points.year is not None else 2012.0
    facts["at"] = [
        {"compute": c, "year": year if points.year is not None else None, "error": fit.error_at(c, year),
         "band": [_number(end) for end in fit.band(c, year)]}
        for c in args.at
    ]  # fmt: skip
    return facts


def _floored(points: Points) -> dict[str, Any]:
    from efflab.frontier.irreducible_error import fit_floor

    fit = fit_floor(points.compute, points.error)
    return {
        "form": "power with floor", "n": fit.n, "a": fit.a, "b": fit.b, "r2": fit.r2, "floor": fit.floor.value,
        "floor_interval": [fit.floor.low, fit.floor.high], "p_value": fit.p_value, "carried": fit.carried,
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if value != value else value


def _text(facts: dict[str, Any], compute: str) -> str:
    left_out = ", ".join(f"{count} with {reason}" for reason, count in facts["left_out"].items())
    lines = [
        f"{facts['file']}: {facts['n']} of {facts['rows']} rows" + (f" (left out: {left_out})" if left_out else "")
    ]
    lines += facts["notes"]
    if facts["repeated"]:
        lines.append(f"{facts['repeated']} points stand more than once: intervals are too narrow by that")
    if facts["few"]:
        lines.append(f"few points (n = {facts['n']}): nothing should be built on this fit")
    if facts["form"] == "power with floor":
        low, high = facts["floor_interval"]
        lines.append(
            f"error = {facts['floor']:.4f} + 10^{facts['a']:.4f} {compute}^{facts['b']:.4f}, R2 {facts['r2']:.3f}"
        )
        lines.append(
            f"irreducible error {facts['floor']:.4f} [{low:.4f}, {high:.4f}], p = {facts['p_value']:.2g} against none"
        )
        if not facts["carried"]:
            lines.append("these points do not carry an irreducible error: it cannot be told from 0")
        return "\n".join(lines)
    seen = "log10(error)" if facts["form"] == "power" else "1/error"
    year = f" {_signed(facts['g'])} (year - 2012)" if "g" in facts else ""
    lines.append(f"{seen} = {facts['a']:.4f} {_signed(facts['b'])} log10({compute}){year}")
    error = f" (standard error {facts['se_b']:.4f})" if facts["se_b"] is not None else ""
    by = f"bootstrap over {facts['clusters']} clusters" if facts["clusters"] else "bootstrap over points"
    if facts["draws"] < facts["asked"]:
        by += f", {facts['draws']} of {facts['asked']} draws carried a fit"
    ends = facts["b_interval"]
    interval = f"95 % [{ends[0]:.4f}, {ends[1]:.4f}]" if ends else "no interval"
    lines.append(f"b = {facts['b']:.4f}{error}, {interval} by {by}; R2 {facts['r2']:.3f}, n {facts['n']}")
    if not facts["significant"]:
        lines.append("the slope is not significant: nothing should be concluded from this fit")
    elif facts["power"] is not None:
        lines.append(
            f"power {facts['power']:.1f}: a tenth of the error takes 10^{facts['power']:.1f} times the compute"
        )
    if "g" in facts:
        lines.append(_progress(facts))
    lowest, highest = facts["compute_range"]
    lines.append(f"{compute} from {lowest:.3g} to {highest:.3g}")
    for one in facts["at"]:
        band = "" if one["band"][0] is None else f" [{one['band'][0]:.4f}, {one['band'][1]:.4f}] for one more model"
        far = "" if lowest <= one["compute"] <= highest else ", extrapolated"
        lines.append(f"at {one['compute']:.3g}: error {one['error']:.4f}{band}{far}")
    return "\n".join(lines)


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'} {abs(value):.4f}"


def _progress(facts: dict[str, Any]) -> str:
    import math

    def months(dex: float) -> str:
        return f"{12 * math.log10(2) / dex:.1f} months" if dex > 0 else "never"

    dex = facts["progress_dex_per_year"]
    if facts["progress_interval"] is None:
        return f"algorithmic progress {dex:.3f} dex a year, no interval"
    low, high = facts["progress_interval"]
    return (
        f"algorithmic progress {dex:.3f} dex a year [{low:.2f}, {high:.2f}]: {10**dex:.1f}x a year, "
        f"doubling in {months(dex)} [{months(high)}, {months(low)}]"
    )
