"""Models that users bring: a Python file with a function, or a torch.export file. Only cards can name them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.errors import RequestError

if TYPE_CHECKING:
    import torch


def build_foreign(builder: dict[str, Any]) -> torch.nn.Module:
    """Build the module that a card's `python` or `torch_export` names, after checking that the file is unchanged."""
    key = "python" if "python" in builder else "torch_export"
    path = Path(builder[key])
    if not path.is_file():
        raise RequestError(f"{path} is gone; the artefacts made from it need it")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != builder["sha256"]:
        raise RequestError(f"{path} has changed since the plan was made; plan again")
    return _from_python(path, builder) if key == "python" else _from_export(path)


def _from_python(path: Path, builder: dict[str, Any]) -> torch.nn.Module:
    name = f"efflab_user_{path.stem}_{builder['sha256'][:12]}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise RequestError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise RequestError(f"{path} fails on import: {type(error).__name__}: {error}") from error
    if not hasattr(module, builder["function"]):
        raise RequestError(f"{path} has no function {builder['function']!r}")
    built: torch.nn.Module = getattr(module, builder["function"])(**builder["settings"])
    return built


def _from_export(path: Path) -> torch.nn.Module:
    import torch

    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise RequestError(f"{path} is no torch.export file ({type(error).__name__}: {error})") from error
    module = program.module()
    # an exported program refuses train() and eval(); it already is what it is
    module.eval = module.train = lambda *_: module  # type: ignore[method-assign]
    return module
