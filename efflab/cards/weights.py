"""Weights of cards: safetensors state dicts, checked by sha256 and shape before they are used."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.artefact import tied_names
from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import expanded
from efflab.foundation.outside import opened, parsed_json

if TYPE_CHECKING:
    import torch

MOST_HEADER = 100_000_000  # bytes, as safetensors itself has it


def check_safetensors(path: Path, place: str) -> None:
    """Raise RequestError, placed at `place`, for a file that is no safetensors file or not a whole one."""
    header = read_header(path)
    if header is None:
        what = (
            f"{path.name} is no safetensors file; write one with safetensors.torch.save_file(model.state_dict(), ...)"
        )
        raise RequestError(Problem(place, what))
    wanted = header["end"]
    size = path.stat().st_size
    if size != wanted:
        what = f"{path.name} is {size:,} bytes long, its header says {wanted:,}: bring the whole file"
        raise RequestError(Problem(place, what))


def read_header(path: Path) -> dict[str, Any] | None:
    """Return {"shapes": {tensor: shape}, "end": bytes of the whole file} of a safetensors file; None for another file."""
    try:
        with opened(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(path.stat().st_size, MOST_HEADER):
                return None
            entries = parsed_json(file.read(length))
        tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
        ends = [int(entry["data_offsets"][1]) for entry in tensors.values()]
        shapes = {name: [int(side) for side in entry["shape"]] for name, entry in tensors.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    return {"shapes": shapes, "end": 8 + length + max(ends, default=0)}


def load_weights(module: torch.nn.Module, path: Path, place: str, there: Collection[str] = ()) -> None:
    """Load a state dict into `module`; raise RequestError, placed at `place`, that lists what does not fit.

    there: names of weights that the module has already, from elsewhere, so that the file need not hold them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise RequestError(Problem(place, f"{path.name} is no safetensors file ({error})")) from error
    own = module.state_dict()
    state |= _tied(own, state)
    optional = {*there, *(name for name in own if name.endswith("num_batches_tracked"))}
    wrong = [f"{name} is missing" for name in own if name not in state and name not in optional]
    wrong += [f"{name} is not in the model" for name in state if name not in own]
    wrong += [
        f"{name} has shape {list(state[name].shape)}, the model has {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    wrong += [
        f"{name} and {first} are one weight in the model and differ in the file"
        for name, first in tied_names(own).items()
        if not wrong and name in state and not bool((state[name] == state[first]).all())
    ]
    if wrong:
        shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise RequestError(Problem(place, f"{path.name} does not fit the model: {shown}"))
    module.load_state_dict(state, strict=False)


def _tied(own: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Return what a file lacks of a module's tied weights: safetensors' save_model stores a shared tensor under one name."""
    groups: dict[str, list[str]] = {}
    for name, first in tied_names(own).items():
        groups.setdefault(first, [first]).append(name)
    found: dict[str, Any] = {}
    for several in groups.values():
        there = next((name for name in several if name in state), None)
        found |= {name: state[there] for name in several if there is not None and name not in state}
    return found


def download(url: str, sha256: str, place: str) -> Path:
    """Fetch weights into the user's cache and check them; raise RequestError if offline or another file comes."""
    from efflab.foundation.downloads import Remote, fetch_file

    path = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "efflab" / "weights"
    path /= f"{sha256}.safetensors"
    try:
        fetch_file(Remote(url, sha256), path)
    except RequestError as error:
        raise error.at(place) from error
    return path
