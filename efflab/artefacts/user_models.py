"""Models that users bring: a Python file with a function, or a torch.export file. Only cards can name them."""

from __future__ import annotations

import tempfile
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

    with tempfile.TemporaryDirectory(prefix="efflab-") as scratch:
        copy = Path(scratch) / OWN_COPY
        _check_operators(copy_checked(path, copy), path)
        try:
            program = torch.export.load(str(copy))
            module = program.module()
        except MemoryError:
            raise
        except Exception as error:
            raise RequestError(f"{path} is no torch.export file ({type(error).__name__}: {one_line(error)})") from error
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
