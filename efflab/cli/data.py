"""Fetch a data set and check it, or say where it is. Offline, the message says where to put the archive."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

HELP = "fetch or check a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", help="data set to fetch; without it, list them")


def run(args: argparse.Namespace) -> int:
    """Fetch, or list."""
    from efflab.foundation.datasets import altered, data_folder, fetch, missing, unpacked_digests
    from efflab.foundation.errors import RequestError, nearest

    sources = _sources()
    known = {source.name: source for source in sources.values() if source is not None}
    if args.name is None:
        for name, source in known.items():
            state = "missing" if missing(source, data_folder() / name) else "present"
            print(
                f"{name}  {state}  {data_folder() / name}  ({source.bytes / 1e6:.0f} MB from {source.url}; {source.note})"
            )
        return 0
    if args.name not in known:
        if sources.get(args.name.replace("-", "_"), ...) is None:
            print(f"{args.name} needs no download")
            return 0
        raise RequestError(f"unknown data set {args.name!r}; {nearest(args.name, {*known, *sources})}")
    source, folder = known[args.name], data_folder() / args.name
    if not missing(source, folder):
        changed = altered(source, folder)
        if not changed:
            how = (
                ""
                if unpacked_digests(folder)
                else "; efflab did not unpack it, so it is not checked: remove it to fetch it"
            )
            print(f"{args.name} is present in {folder}{how}")
            return 0
        print(f"{', '.join(changed)} in {folder} is not as it was unpacked; it is made again")
    print(f"fetching {source.url} into {folder}")
    fetch(source, folder, _progress())
    print(f"{args.name} is present in {folder}")
    return 0


def _sources() -> dict[str, Any]:
    """Return each task's data set, which its file declares as SOURCE, or None where it needs no download."""
    import importlib

    from efflab.foundation import registry

    tasks, _ = registry.working("tasks")
    return {name: getattr(importlib.import_module(task.__module__), "SOURCE", None) for name, task in tasks.items()}


def _progress() -> Callable[[int, int], None]:
    shown = [0]

    def report(done: int, total: int) -> None:
        if done * 20 // total > shown[0]:
            shown[0] = done * 20 // total
            print(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB", flush=True)

    return report
