"""Says which packages plug-ins need and this Python lacks, before any work: declared, imported, or told by an error."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

DISTRIBUTIONS = {
    "PIL": "pillow", "cv2": "opencv-python", "sklearn": "scikit-learn", "skimage": "scikit-image", "yaml": "PyYAML",
    "bs4": "beautifulsoup4", "dateutil": "python-dateutil", "torch_pruning": "torch-pruning",
}  # fmt: skip
FORGIVING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def installed(module: str) -> bool:
    """Say whether a module can be found; its parents are imported, it is not."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def lacking(modules: Iterable[str]) -> str:
    """Return a sentence that names the modules that are not installed here and how to get them, or ""."""
    missing = list(dict.fromkeys(name for name in modules if not installed(name)))
    if not missing:
        return ""
    tops = dict.fromkeys(name.split(".")[0] for name in missing)
    told = f"the package{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}"
    verb = "are" if len(missing) > 1 else "is"
    return f"it needs {told}, which {verb} not installed; pip install {' '.join(DISTRIBUTIONS.get(top, top) for top in tops)}"


def missing_package(error: BaseException) -> str:
    """Return the same sentence for the error of an import, or "" if the error is another one."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return lacking([name.split(".")[0]]) if name else ""


def missing_imports(path: Path) -> list[tuple[int, str]]:
    """Return the line and name of each package that a Python file surely imports, functions included, and that is not there.

    What stands under an `if`, or where an ImportError is caught, may never be imported, and is not looked at.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = {name: line for line, name in sorted(_imports(tree), reverse=True)}  # the first line of each
    return sorted((line, name) for name, line in found.items() if not installed(name))


def _imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((node.lineno, one.name.split(".")[0]) for one in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.lineno, node.module.split(".")[0]
    for child in _certain(node):
        yield from _imports(child)


def _certain(node: ast.AST) -> Iterator[ast.AST]:
    """Return the parts of a node that run whenever it does."""
    if isinstance(node, ast.If | ast.Match):
        return
    if isinstance(node, ast.With | ast.AsyncWith) and any(
        "suppress" in ast.unparse(item.context_expr) for item in node.items
    ):
        return
    if isinstance(node, ast.Try | ast.TryStar) and any(_forgives(handler) for handler in node.handlers):
        yield from (*node.orelse, *node.finalbody)
        return
    yield from (child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.ExceptHandler))


def _forgives(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(one, ast.Name) and one.id in FORGIVING for one in caught)
