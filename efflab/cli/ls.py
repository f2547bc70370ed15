"""List what efflab knows: techniques, backends, tasks, models, baselines, recipes, studies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efflab.cards.baseline import Baseline

HELP = "list techniques, backends, tasks, models, baselines, recipes and studies"
LONGEST_COMMENT = 10_000  # bytes at the head of a file
KINDS = ["techniques", "backends", "tasks", "models", "baselines", "recipes", "studies"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "kind", nargs="?", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}; default: all"
    )
    parser.add_argument(
        "--format", default="plain", help="any tabulate format, csv or json; with --graph: plain or mermaid"
    )
    parser.add_argument(
        "--graph", action="store_true", help="techniques: which must, may not and had better stand after which, and why"
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    from efflab.cli._tables import show

    if args.graph:
        return _graph(args.kind, args.format)
    rows = [row for kind in ([args.kind] if args.kind else KINDS) for row in _rows(kind)]
    show(rows, args.format, COLUMNS.get(args.kind, ["kind", "name", "from", "about"]))
    return 0


COLUMNS = {
    "baselines": ["name", "task", "family", "seeds", "quality", "parameters", "from", "about"],
    "studies": ["name", "written", "rows", "from", "about"],
}


def _graph(kind: str | None, style: str) -> int:
    """Print the order of techniques as text, or as a graph for Mermaid."""
    from shutil import get_terminal_size

    from efflab.cli._order import as_mermaid, as_text
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError, nearest

    if kind != "techniques":
        raise RequestError("--graph shows the order of techniques: efflab ls techniques --graph")
    if style not in ("plain", "mermaid"):
        raise RequestError(f"unknown --format {style!r} of a graph; {nearest(style, ['plain', 'mermaid'])}")
    good, bad = registry.working("techniques")
    print(
        "\n".join(as_mermaid(good) if style == "mermaid" else as_text(good, bad, get_terminal_size((100, 24)).columns))
    )
    return 0


def _rows(kind: str) -> list[dict[str, Any]]:
    from efflab.foundation import registry

    if kind in registry.KINDS:
        return [_plugin(kind, name) for name in registry.names(kind)]
    if kind == "studies":
        from efflab.records.store import LocalStore

        return [_study(path) for path in sorted((LocalStore.open().root / "studies").glob("*/study.json"))]
    if kind == "baselines":
        from efflab.cards.card_paths import card_files
        from efflab.foundation.files import real

        return [_card(path) for path in card_files().values() if real(path).parent.name == "baselines"]
    paths = sorted(Path("recipes").glob("*.yaml"))
    return [{"kind": "recipe", "name": path.stem, "from": str(path), "about": _first_comment(path)} for path in paths]


def _plugin(kind: str, name: str) -> dict[str, Any]:
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError

    source = registry.origin(kind, name)
    row = {"kind": registry.KINDS[kind], "name": name, "from": source, "about": _about(kind, name)}
    if source != "efflab":  # efflab's own work, and need not be imported to know that
        try:
            registry.load(kind, name)
        except RequestError as error:
            row["about"] = f"cannot be used: {error}"
    return row


def _study(path: Path) -> dict[str, Any]:
    import time

    from efflab.foundation.errors import RequestError
    from efflab.records.study import load_study

    row: dict[str, Any] = {"kind": "study", "name": path.parent.name, "from": str(path)}
    try:
        row["written"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        row["rows"] = len(load_study(path)["records"])
        row["about"] = f"{row['rows']} rows, {row['written']}"
    except RequestError as error:
        row["about"] = f"cannot be read: {error.problems[0].what}"
    except OSError as error:
        row["about"] = f"cannot be read: {error.strerror}"
    return row


def _card(path: Path) -> dict[str, Any]:
    from efflab.cards.baseline import load_baseline
    from efflab.foundation.errors import RequestError

    row: dict[str, Any] = {"kind": "baseline", "name": path.stem, "from": str(path), "about": _first_comment(path)}
    try:
        baseline = load_baseline(path)
    except RequestError as error:
        return {**row, "about": f"cannot be used: {error.problems[0]}"}
    card = baseline.card
    scores = [weights.quality for weights in card.weights if weights.quality is not None]
    row["task"], row["family"] = next(iter(card.task)), card.family or ""
    row["seeds"] = " ".join(map(str, baseline.seeds())) or "not trained"
    row["quality"] = f"{baseline.task.metric} {sum(scores) / len(scores):.4f}" if scores else ""
    row["parameters"] = _parameters(baseline)
    return row


def _parameters(baseline: Baseline) -> str:
    """Return how many parameters the first weights that lie at hand hold, buffers of batch norms left out."""
    from math import prod

    from efflab.cards.weights import read_header
    from efflab.foundation.errors import RequestError

    if baseline.encoder:  # some of the checkpoint's layers, and adapters that are merged
        return ""
    try:
        paths = list(baseline.checkpoint().weights if baseline.card.hugging_face else ())
    except RequestError:
        return ""
    paths += [baseline.beside(weights.file) for weights in baseline.card.weights if weights.file][:1]
    headers = [read_header(path) for path in paths if path.is_file()]
    if not headers or None in headers:
        return ""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    shapes = [(name, shape) for header in headers if header for name, shape in header["shapes"].items()]
    return f"{sum(prod(shape) for name, shape in shapes if not name.endswith(buffers)):,}"


def _first_comment(path: Path) -> str:
    """Return the first sentence of the comment that a YAML file opens with, without reading the rest."""
    from itertools import takewhile

    from efflab.foundation.outside import opened, why

    try:
        with opened(path) as file:
            text = file.read(LONGEST_COMMENT).decode("utf-8", errors="replace")
    except OSError as error:
        return f"cannot be read: {why(error)}"
    lines = takewhile(lambda line: line.startswith("#") and line.strip("# "), text.splitlines())
    return _first_sentence(" ".join(line.removeprefix("#") for line in lines))


def _first_sentence(text: str) -> str:
    """Return a text up to its first full stop, on one line."""
    import re

    return re.split(r"(?<!et al\.)(?<=\.) ", " ".join(text.split()), maxsplit=1)[0]


def _about(kind: str, name: str) -> str:
    """Return the first sentence of a plug-in file's docstring without importing it."""
    import ast

    from efflab.foundation import registry

    source = registry.sources(kind)[name]
    if not isinstance(source, Path):
        return ""
    try:
        text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    return _first_sentence(text.split("\n\n")[0])
