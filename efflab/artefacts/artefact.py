"""What a variant is on disk: structure as JSON + weights as safetensors, or ONNX. Nothing is pickled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from efflab.artefacts.interface import Interface
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.foundation.outside import content_of, parsed_json
from efflab.foundation.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

Form = Literal["module", "onnx"]  # a torch module, or the path of an ONNX file
SCHEMA = 1
STRUCTURE, WEIGHTS, GRAPH = "artefact.json", "weights.safetensors", "model.onnx"
ANEW = "remove its folder, and run the recipe, which makes it again"
OWN = {
    "python": "builder.py",
    "torch_export": "program.pt2",
}  # a user's file from which a module is built, in its artefact


@dataclass(frozen=True)
class Artefact:
    """A folder with a model in it: `artefact.json` beside `weights.safetensors`, or beside `model.onnx`."""

    folder: Path
    form: Form

    @classmethod
    def open(cls, folder: Path) -> Artefact:
        """Open a stored artefact; raise RequestError if it was written by a newer efflab."""
        return cls(folder, read_structure(folder)["form"])

    @property
    def onnx(self) -> Path:
        """The ONNX file of an artefact of form `onnx`."""
        return self.folder / GRAPH

    @property
    def structure(self) -> dict[str, Any]:
        """The content of `artefact.json`."""
        return read_structure(self.folder)

    @property
    def interface(self) -> Interface:
        """What the model takes and gives; empty for an artefact of which nobody has looked."""
        try:
            return Interface.of_data(self.structure.get("interface", {}))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            what = f"{self.folder / STRUCTURE} does not say what the model takes and gives ({one_line(error)}); {ANEW}"
            raise RequestError(what) from error

    @property
    def bytes(self) -> int:
        """Size of the artefact's weights or graph on disk, in bytes (external ONNX data included)."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.name not in (STRUCTURE, *OWN.values()))

    @property
    def builder(self) -> dict[str, Any]:
        """What `build` builds the module from, its file where it lies now."""
        return _located(self.structure["builder"], self.folder)

    def module(self) -> torch.nn.Module:
        """Rebuild the torch module, in evaluation mode, with its stored weights."""
        return load_module(self.folder)


def read_structure(folder: Path) -> dict[str, Any]:
    """Read `artefact.json`; raise RequestError if it is none, or of a newer schema."""
    try:
        structure: dict[str, Any] = parsed_json(content_of(folder / STRUCTURE))
        form, schema = structure["form"], structure["schema"]
        whole = isinstance(structure.get("builder", {}), dict) and isinstance(structure.get("edits", []), list)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{folder / STRUCTURE} says no model ({one_line(error)}); {ANEW}") from error
    if not whole or form not in ("module", "onnx") or type(schema) is not int:
        raise RequestError(f"{folder / STRUCTURE} says no model; {ANEW}")
    if schema > SCHEMA:
        raise RequestError(
            f"{folder} was written by a newer efflab (schema {structure['schema']}, this one knows {SCHEMA})"
        )
    return structure


def write_structure(folder: Path, form: Form, **fields: Any) -> None:
    """Write `artefact.json` of an artefact."""
    content = {**fields, "schema": SCHEMA, "form": form}
    (folder / STRUCTURE).write_text(json.dumps(content, indent=1, sort_keys=True))


def write_interface(folder: Path, interface: Interface) -> None:
    """Note in `artefact.json` what the model takes and gives."""
    structure = read_structure(folder)
    write_structure(folder, **{**structure, "interface": interface.as_data()})


def build(builder: dict[str, Any]) -> torch.nn.Module:
    """Build a module with fresh weights from `builder`: a model plug-in, a Python file, or an exported program.

    Raises RequestError if what was built is no torch.nn.Module; what a builder raises passes through.
    """
    from torch import nn

    if "hugging_face" in builder:
        from efflab.artefacts.text_encoders import build_text_classifier

        return build_text_classifier(builder["hugging_face"])
    if "model" in builder:
        name = builder["model"]
        module = registry.load("models", name)(**builder["settings"])
    else:
        from efflab.artefacts.user_models import build_foreign

        name = builder.get("function", "the file")
        module = build_foreign(builder)
    if not isinstance(module, nn.Module):
        raise RequestError(f"{name} gives {_a_kind(module)}, but a torch.nn.Module is wanted")
    return module


def _a_kind(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}" if value is not None else "nothing"


def _located(builder: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a stored builder with the path of its file, which lies in the artefact's folder."""
    return {key: str(folder / value) if key in OWN else value for key, value in builder.items()}


def _stored(builder: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Copy the file that a builder names into the artefact's folder, and return the builder as it is stored."""
    for key in OWN.keys() & builder.keys():
        shutil.copyfile(builder[key], folder / OWN[key])
    return {key: OWN.get(key, value) for key, value in builder.items()}


def save_module(module: torch.nn.Module, builder: dict[str, Any], edits: list[dict[str, Any]], folder: Path) -> None:
    """Store `module`: its builder with the file that it names, the edits of its structure in order, its dtype, its weights.

    Each edit is {"technique": name, "structure": plain data for that technique's `rebuild`}.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state, tied = untied(module.state_dict()), tied_names(module.state_dict())
    for edit in edits:
        state = registry.load("techniques", edit["technique"]).pack(state)
    save_file(state, str(folder / WEIGHTS))
    write_structure(folder, "module", builder=_stored(builder, folder), edits=edits, **({"tied": tied} if tied else {}))


def untied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in which each tensor stands once, under its first name (see `tied_names`), in memory of its own."""
    import torch

    tied = tied_names(state)
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
        if name not in tied
    }


def load_module(folder: Path) -> torch.nn.Module:
    """Rebuild a stored module with its weights and dtypes, in evaluation mode."""
    from safetensors.torch import load_file

    from efflab.artefacts.user_models import refuse_unnamed

    structure = read_structure(folder)
    if not {"builder", "edits"} <= structure.keys():
        raise RequestError(f"{folder / STRUCTURE} says no model; {ANEW}")
    refuse_unnamed(structure["builder"], folder)
    module = build(_located(structure["builder"], folder))
    for edit in structure["edits"]:
        module = registry.load("techniques", edit["technique"]).rebuild(module, edit["structure"])
    state = load_file(str(folder / WEIGHTS))
    for edit in reversed(structure["edits"]):
        state = registry.load("techniques", edit["technique"]).unpack(state)
    state |= {name: state[first] for name, first in structure.get("tied", {}).items()}
    _untie(module, state)
    own = module.state_dict()
    for name, tensor in state.items():
        if name in own and own[name].dtype != tensor.dtype:
            _set_dtype(module, name, tensor.dtype)
    module.load_state_dict(state, strict=True)
    return module.eval()


def _untie(module: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give layers that share a weight one each where a step gave them different numbers, before these are loaded."""
    from torch import nn

    own = module.state_dict()
    for name, first in tied_names(own).items():
        if name in state and first in state and not _equal(state[name], state[first]):
            *path, leaf = name.split(".")
            owner = module.get_submodule(".".join(path))
            if isinstance(getattr(owner, leaf), nn.Parameter):
                setattr(owner, leaf, nn.Parameter(own[name].clone(), requires_grad=own[name].is_floating_point()))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and bool((one == other).all())


def _set_dtype(module: torch.nn.Module, name: str, dtype: torch.dtype) -> None:
    *path, leaf = name.split(".")
    owner = module.get_submodule(".".join(path))
    tensor = getattr(owner, leaf)
    tensor.data = tensor.data.to(dtype)


def tied_names(own: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of a state dict that stand for a tensor named before, each with the first name of it."""
    first: dict[tuple[Any, ...], str] = {}
    found: dict[str, str] = {}
    for name, tensor in own.items():
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and first.setdefault(key, name) != name:
            found[name] = first[key]
    return found
