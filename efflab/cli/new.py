"""Write the skeleton of a plug-in of your own: one file, commented, that `efflab validate` takes from red to green.

efflab new backend mychip        plugins/backends/mychip.py,   checked by  efflab validate mychip
efflab new technique my_pruning  plugins/techniques/my_pruning.py,   by  efflab validate technique my_pruning
efflab new task my_data          plugins/tasks/my_data.py,   by  efflab plan of a recipe whose card names it
"""

from __future__ import annotations

import argparse

HELP = "write the skeleton of a backend, technique or task plug-in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab new`."""
    parser.add_argument("kind", choices=("backend", "technique", "task"), help="what to write")
    parser.add_argument("name", help="its name in recipes: lower case, digits and _")
    parser.add_argument("--out", default="plugins", metavar="FOLDER", help="folder of plug-ins (default: plugins)")


def run(args: argparse.Namespace) -> int:
    """Write the file, and say how to go on."""
    from pathlib import Path

    from efflab.cli._skeletons import BACKEND, TASK, TECHNIQUE
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError

    _check_name(args.kind, args.name)
    file = Path(args.out) / f"{args.kind}s" / f"{args.name}.py"
    if file.exists():
        raise RequestError(f"{file} is there already; it is left as it is")
    skeleton = {"backend": BACKEND, "technique": TECHNIQUE, "task": TASK}[args.kind]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            skeleton.format(name=args.name, title=registry.class_name(args.name), file=file), encoding="utf-8"
        )
    except OSError as error:
        raise RequestError(f"cannot write {file}: {(error.strerror or str(error)).lower()}") from error
    check = {
        "backend": f"efflab validate {args.name} --quick",
        "technique": f"efflab validate technique {args.name}",
        "task": f"write a card with `task: {{{args.name}: {{}}}}`, and `efflab show` it",
    }[args.kind]
    built_in = Path(args.out).resolve() == Path(registry.__file__).parents[1]  # found without being told
    steps = [*([] if built_in else [f"export EFFLAB_PLUGINS={args.out}"]), check]
    print(f"{file}\nnext:  " + "\n       ".join(steps))
    return 0


def _check_name(kind: str, name: str) -> None:
    import keyword
    import re

    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise RequestError(f"a {kind}'s name is of lower-case letters, digits and _ (found {name!r})")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise RequestError(f"{name!r} is a word of Python's own; take another name")
    reserved = registry.RESERVED.get((f"{kind}s", name))
    if reserved:
        raise RequestError(f"no {kind} can be named {name!r}: {reserved}")
    if name in registry.names(f"{kind}s"):
        raise RequestError(f"there is a {kind} {name!r} already")
