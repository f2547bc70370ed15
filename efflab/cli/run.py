"""Run a recipe: make the variants, score them, measure them, and write the study. Finished stages are not repeated."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "run a recipe: make, score and measure its variants"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", type=Path, help="recipe YAML")
    parser.add_argument(
        "--only", action="append", metavar="VARIANT", help="run only this variant and its controls (repeatable)"
    )
    parser.add_argument(
        "--force", nargs="*", metavar="VARIANT", help="do these variants again (without names: everything)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="worker processes for models and quality (default: processors)"
    )


def run(args: argparse.Namespace) -> int:
    """Run, and return 1 if a row failed."""
    from efflab.cli._progress import watcher
    from efflab.execution.study_maker import broken_promises
    from efflab.foundation.errors import RequestError
    from efflab.foundation.visible import visible
    from efflab.records.store import LocalStore
    from efflab.run import run_file
    from efflab.suggest.past_studies import read

    if args.workers is not None and args.workers < 1:
        raise RequestError("--workers must be at least 1")
    store = LocalStore.open()
    with watcher() as watch:
        study = run_file(
            args.recipe, only=args.only, force=args.force, workers=args.workers, store=store, watcher=watch
        )
    read([store.study_file(study["name"])], store)  # worked out once here, so that `suggest` need not
    records = study["records"]
    failed = [record for record in records if record["status"] == "failed"]
    absent = [record for record in records if record["status"] == "unavailable"]
    measured = len(records) - len(failed) - len(absent)
    counts = f"{measured} measured, {len(failed)} failed, {len(absent)} unavailable"
    print(f"{len(records)} records (variant, seed, backend, batch): {counts}")
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in [*failed, *absent]:
        reasons.setdefault((record["backend"], record["reason"]), []).append(record["variant"])
    for (backend, reason), names in reasons.items():
        print(visible(f"  {', '.join(dict.fromkeys(names))} on {backend}: {reason}"))
    for sentence in broken_promises(study):
        print(visible(f"warning: {sentence}"))
    print(f"study: {store.study_file(study['name'])}")
    print(f"next:  efflab compare {study['name']}    efflab report {study['name']}")
    return 1 if failed else 0
