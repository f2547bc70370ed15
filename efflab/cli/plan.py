"""Print the stages of a recipe, which of them are finished, and an estimate of the time; nothing is run."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "print a recipe's stages, what is finished, and an estimate of the time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", type=Path, help="recipe YAML")
    parser.add_argument("--only", action="append", metavar="VARIANT", help="plan only this variant (repeatable)")
    parser.add_argument("--format", default="plain", help="any tabulate format, csv or json")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    import sys

    from efflab.cli._tables import show
    from efflab.foundation.wording import duration
    from efflab.records.store import LocalStore
    from efflab.run import cached_stages, plan_file, side_by_side

    plan = plan_file(args.recipe, args.only)
    finished = cached_stages(plan, LocalStore.open())
    rows = [
        {
            "stage": one,
            "kind": stage.kind,
            "what": stage.title,
            "state": "finished" if one in finished else "to do",
            "estimate_s": f"{stage.estimate_s:.0f}",
        }
        for one, stage in plan.stages.items()
    ]
    show(rows, args.format, ["stage", "kind", "what", "state", "estimate_s"])
    for note in plan.recipe.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.format not in ("csv", "json"):
        todo = [stage for one, stage in plan.stages.items() if one not in finished]
        alone = sum(stage.estimate_s for stage in todo if stage.kind == "latency")
        together = sum(stage.estimate_s for stage in todo) - alone
        search_s = plan.recipe.search_s
        left = (
            f"about {duration(alone + together / side_by_side(plan.recipe))} to go (estimate)"
            if todo
            else "nothing to do"
        )
        counts = f"{len(plan.stages)} stages, {len(finished)} finished; {len(plan.rows)} rows"
        print(f"\n{counts}; {left}")
        if search_s:
            print(f"and before that the search, about {duration(search_s)}; what it finds is measured, too")
    return 0
