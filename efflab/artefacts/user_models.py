"""Models that users bring: a Python file with a function, or a torch.export file. Only cards can name them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.program_archive import copy_checked
from efflab.artefacts.program_schema import operators
from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest
from efflab.foundation.registry import import_path
from efflab.foundation.wording import one_line

if TYPE_CHECKING:
    import torch


OWN_COPY = "model.pt2"
# What operators may take as text: names of choices, and what an assertion says. Others open files or print.
CHOICES = {
    "UPLO", "activation", "algorithm", "approximate", "assert_msg", "driver", "equation", "indexing", "interpolation", "mode",
    "norm", "ord", "p", "pad_mode", "padding", "padding_side", "reduce", "rounding_mode", "side",
}  # fmt: skip


NAMED = "EFFLAB_MODELS_OF_CARDS"  # what cards name, for this process and those that it starts


def name_model(builder: dict[str, Any]) -> None:
    """Note that a card of the user names a Python function with its settings, so that stored models may be built by it."""
    name_models([_mark(builder)])


def name_models(marks: Iterable[str]) -> None:
    """Note what another process of the user has noted, as `named_models` gave it."""
    os.environ[NAMED] = ",".join(sorted({*named_models(), *marks}))


def named_models() -> tuple[str, ...]:
    """Return marks of the Python functions that cards name; code that came with a store has none, and is not run."""
    return tuple(filter(None, os.environ.get(NAMED, "").split(",")))


def refuse_unnamed(builder: dict[str, Any], folder: Path) -> None:
    """Raise RequestError for a stored model that would be built by Python code which no card of the user names."""
    if "python" in builder and _mark(builder) not in named_models():
        what = (
            f"the model stored in {folder} is built by Python code that came with it, and no card here names that code"
        )
        way_out = "bring the card and its Python file; or remove this folder, and run the recipe, which makes it again"
        raise RequestError(f"{what}, so it is not run; {way_out}")


def _mark(builder: dict[str, Any]) -> str:
    told = {key: builder.get(key) for key in ("sha256", "function", "settings")}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def build_foreign(builder: dict[str, Any]) -> torch.nn.Module:
    """Build the module that a card's `python` or `torch_export` names, after checking that the file is unchanged."""
    key = "python" if "python" in builder else "torch_export"
    path = Path(builder[key])
    if not path.is_file():
        raise RequestError(f"{path} is gone; the artefacts made from it need it")
    if file_digest(path) != builder["sha256"]:
        raise RequestError(f"{path} has changed since the plan was made; plan again")
    if key == "torch_export":
        return _from_export(path)
    name_model(builder)  # whoever asks for this file itself, and not for a stored model, names it
    return _from_python(path, builder)


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
    from torch.export.pt2_archive._package import (
        load_pt2,
    )  # `torch.export.load` prints what is wrong, and raises nothing of it

    with tempfile.TemporaryDirectory(prefix="efflab-") as scratch:
        copy = Path(scratch) / OWN_COPY
        _check_operators(copy_checked(path, copy), path)
        try:
            module = load_pt2(str(copy)).exported_programs["model"].module()
        except MemoryError:
            raise
        except Exception as error:
            raise RequestError(f"{path} is no torch.export file ({one_line(error)})") from error
    # an exported program refuses train() and eval(); it already is what it is
    module.eval = module.train = lambda *_: module  # type: ignore[method-assign]
    return module


def _check_operators(model: Any, path: Path) -> None:
    """Raise RequestError for operators that are not PyTorch's own, or that take other text than the names of choices."""
    import torch

    for target in sorted(operators(model)):
        space, name, overload = target.split(".")[2:]
        full = f"{space}::{name}" + ("" if overload == "default" else f".{overload}")
        try:
            known = torch._C._dispatch_has_kernel(full)
            words = [
                one.name
                for one in torch._C._get_schema(f"{space}::{name}", full.partition(".")[2]).arguments
                if known and "str" in str(one.type)
            ]
        except RuntimeError:
            known, words = False, []
        if not known or not CHOICES.issuperset(words):
            raise RequestError(f"{path} uses {target}, which is no operator of PyTorch that computes with tensors only")


def exported_batch(module: torch.nn.Module) -> int | None:
    """Return the number of examples that an exported program takes, where it takes one only; None for other modules."""
    graph = getattr(module, "graph", None)
    values = [node.meta.get("val") for node in graph.nodes if node.op == "placeholder"] if graph is not None else []
    lengths = [value.shape[0] for value in values if getattr(value, "ndim", 0)]
    fixed = {one for one in lengths if isinstance(one, int)}
    return fixed.pop() if len(fixed) == 1 and all(isinstance(one, int) for one in lengths) else None
