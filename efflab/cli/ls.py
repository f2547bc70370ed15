"""List what efflab knows: techniques, backends, tasks, models, baselines, recipes, studies."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "list techniques, backends, tasks, models, baselines, recipes and studies"
KINDS = ["techniques", "backends", "tasks", "models", "baselines", "recipes", "studies"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "kind", nargs="?", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}; default: all"
    )
    parser.add_argument("--format", default="plain", help="any tabulate format, csv or json")


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    from efflab.cli._tables import show

    rows = [row for kind in ([args.kind] if args.kind else KINDS) for row in _rows(kind)]
    show(rows, args.format, ["kind", "name", "from", "about"])
    return 0


def _rows(kind: str) -> list[dict[str, str]]:
    from efflab import registry

    if kind in registry.KINDS:
        return [
            {
                "kind": registry.KINDS[kind],
                "name": name,
                "from": registry.origin(kind, name),
                "about": _about(kind, name),
            }
            for name in registry.names(kind)
        ]
    if kind == "studies":
        from efflab.store import Store

        files = sorted((Store.open().root / "studies").glob("*/study.json"))
        return [{"kind": "study", "name": path.parent.name, "from": str(path), "about": ""} for path in files]
    if kind == "baselines":
        from efflab.baseline import card_files

        paths = [path for path in card_files().values() if path.parent.name == "baselines"]
    else:
        paths = sorted(Path("recipes").glob("*.yaml"))
    return [{"kind": kind[:-1], "name": path.stem, "from": str(path), "about": _first_comment(path)} for path in paths]


def _first_comment(path: Path) -> str:
    """Return the prose in a YAML file's first line, without reading the rest."""
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline()
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def _about(kind: str, name: str) -> str:
    """Return the first sentence of a plug-in file's docstring without importing it."""
    import ast

    from efflab import registry

    source = registry.sources(kind)[name]
    if not isinstance(source, Path):
        return ""
    try:
        text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    return text.split("\n")[0]
