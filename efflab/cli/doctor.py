"""Show this machine as efflab sees it: fingerprint, whether it is quiet, and each backend or the line that installs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

HELP = "show this machine, and each backend or the line that installs it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--format", default="plain", help="any tabulate format, csv or json")


def run(args: argparse.Namespace) -> int:
    """Print what was found."""
    from efflab.cli._tables import show
    from efflab.foundation import registry
    from efflab.foundation.datasets import data_folder
    from efflab.foundation.machine import fingerprint, load_state, machine_id, quiet
    from efflab.records.store import LocalStore

    print_ = fingerprint()
    state = load_state()
    rows = [{"what": "machine id", "value": machine_id(print_)}]
    rows += [
        {"what": key.replace("_gib", ", GiB").replace("_", " "), "value": _said(value)} for key, value in print_.items()
    ]
    rows += [
        {"what": "load", "value": _load(state)},
        {"what": "quiet?", "value": "yes" if quiet(state) else "no: measured times will be noisy"},
    ]
    rows += [
        {"what": "store", "value": _place(lambda: LocalStore.open().root)},
        {"what": "data sets", "value": _place(data_folder)},
    ]
    rows += [{"what": f"backend {name}", "value": _state(name)} for name in registry.names("backends")]
    show(rows, args.format, ["what", "value"])
    return 0


def _place(find: Callable[[], Path]) -> str:
    """Return a folder, or why it is none: that must not hide what is known of the machine."""
    from efflab.foundation.errors import RequestError

    try:
        return str(find())
    except RequestError as error:
        return str(error)


def _state(backend: str) -> str:
    """Return `present`, or why a backend cannot be used: what itself says, or how it fails to say so."""
    from efflab.contracts.backend import why_unavailable
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError

    try:
        return why_unavailable(registry.load("backends", backend)) or "present"
    except RequestError as error:  # a plug-in's fault must not hide what is known of the others
        return str(error)


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner or 'not installed'}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


def _load(state: dict[str, Any]) -> str:
    """Return a load state in words: shares of all processors over the moment watched, and load averages."""
    busy, steal, averages = state["busy_share"], state["steal_share"], state["load_average"]
    parts = [f"{busy:.0%} of the processors busy"] if busy is not None else []
    parts += [f"{steal:.0%} taken by other machines of this host"] if steal is not None else []
    if averages:
        parts.append(f"load averages {', '.join(f'{one:.2f}' for one in averages)} (1, 5, 15 min)")
    return "; ".join(parts) or "unknown"
