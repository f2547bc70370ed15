"""Show this machine as efflab sees it: fingerprint, whether it is quiet, and each backend or the line that installs it."""

from __future__ import annotations

import argparse

HELP = "show this machine, and each backend or the line that installs it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--format", default="plain", help="any tabulate format, csv or json")


def run(args: argparse.Namespace) -> int:
    """Print what was found."""
    from efflab import registry
    from efflab.cli._tables import show
    from efflab.data import data_folder
    from efflab.environment import fingerprint, load_state, machine_id, quiet
    from efflab.store import Store

    print_ = fingerprint()
    state = load_state()
    rows = [{"what": "machine id", "value": machine_id(print_)}]
    rows += [{"what": key, "value": _flat(value)} for key, value in print_.items()]
    rows += [
        {"what": "load", "value": _flat(state)},
        {"what": "quiet?", "value": "yes" if quiet(state) else "no: measured times will be noisy"},
    ]
    rows += [{"what": "store", "value": str(Store.open().root)}, {"what": "data sets", "value": str(data_folder())}]
    for name in registry.names("backends"):
        reason = registry.load("backends", name).available()
        rows.append({"what": f"backend {name}", "value": reason or "present"})
    show(rows, args.format, ["what", "value"])
    return 0


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
