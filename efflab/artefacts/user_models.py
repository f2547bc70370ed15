"""Models that users bring: a Python file with a function, or a torch.export file. Only cards can name them."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest
from efflab.foundation.registry import import_path

if TYPE_CHECKING:
    import torch


PLAIN = ("weight_", "tensor_")  # how an archive names what is raw numbers


def build_foreign(builder: dict[str, Any]) -> torch.nn.Module:
    """Build the module that a card's `python` or `torch_export` names, after checking that the file is unchanged."""
    key = "python" if "python" in builder else "torch_export"
    path = Path(builder[key])
    if not path.is_file():
        raise RequestError(f"{path} is gone; the artefacts made from it need it")
    if file_digest(path) != builder["sha256"]:
        raise RequestError(f"{path} has changed since the plan was made; plan again")
    return _from_python(path, builder) if key == "python" else _from_export(path)


def _from_python(path: Path, builder: dict[str, Any]) -> torch.nn.Module:
    module = import_path(path, f"efflab_user_{path.stem}_{builder['sha256'][:12]}")
    if not hasattr(module, builder["function"]):
        raise RequestError(f"{path} has no function {builder['function']!r}")
    try:
        built: torch.nn.Module = getattr(module, builder["function"])(**builder["settings"])
    except Exception as error:
        what = f"the model of {path} cannot be built: {builder['function']} raises {type(error).__name__}: {error}"
        raise RequestError(what) from error
    return built


def _from_export(path: Path) -> torch.nn.Module:
    import torch

    _refuse_code(path)
    load = torch.load
    # PyTorch falls back to full unpickling for an exported program's sample inputs; a model file must not run code
    torch.load = functools.partial(_load_tensors_only, load)
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise RequestError(f"{path} is no torch.export file ({type(error).__name__}: {error})") from error
    finally:
        torch.load = load
    module = program.module()
    # an exported program refuses train() and eval(); it already is what it is
    module.eval = module.train = lambda *_: module  # type: ignore[method-assign]
    return module


def exported_batch(module: torch.nn.Module) -> int | None:
    """Return the number of examples that an exported program takes, where it takes one only; None for other modules."""
    graph = getattr(module, "graph", None)
    values = [node.meta.get("val") for node in graph.nodes if node.op == "placeholder"] if graph is not None else []
    lengths = [value.shape[0] for value in values if getattr(value, "ndim", 0)]
    fixed = {one for one in lengths if isinstance(one, int)}
    return fixed.pop() if len(fixed) == 1 and all(isinstance(one, int) for one in lengths) else None


def _load_tensors_only(load: Callable[..., Any], *words: Any, **options: Any) -> Any:
    return load(*words, **{**options, "weights_only": True})


def _refuse_code(path: Path) -> None:
    """Raise RequestError for an archive with pickled weights, constants or objects in it, or of the old format."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            configs = [json.loads(archive.read(name)) for name in names if name.endswith("_config.json")]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} is no torch.export file ({error})") from error
    if not any("/models/" in name and name.endswith(".json") for name in names) or len(configs) < 2:
        raise RequestError(f"{path} has the format of an old torch.export; save it again with torch 2.9 or newer")
    entries = [entry for config in configs for entry in config.get("config", {}).values()]
    if any(entry["use_pickle"] or not entry["path_name"].startswith(PLAIN) for entry in entries):
        raise RequestError(f"{path} holds pickled objects, which could run code; export plain tensors only")
