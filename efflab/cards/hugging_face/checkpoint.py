"""Image classifiers in Hugging Face's format: where a card's model lies, and whether its files are whole. Nothing is fetched.

A checkpoint is a folder with `config.json` and safetensors weights: one that the card names, or a snapshot of a model of the
Hub in the Hub's cache. Pickled weights are refused, code that comes with a model is never run.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from efflab.cards.weights import check_safetensors, read_header
from efflab.foundation.config import Document, Settings
from efflab.foundation.errors import Problem, RequestError, nearest
from efflab.foundation.files import expanded, file_digest, is_file, is_folder, real
from efflab.foundation.outside import read_json
from efflab.foundation.packages import PACKAGE, package_folder
from efflab.foundation.wording import COMMIT

HF = "hf"  # the key of a card's `model`
KEY = ("model", HF)
CONFIG, PREPROCESSOR, WEIGHTS, INDEX = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
HUB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?"
PACKAGES = ("transformers", "optimum", "optimum.exporters.onnx")
# keys of a configuration: counts of layers, and widths
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers")
WIDTHS = ("hidden_size", "intermediate_size", "vocab_size", "d_model", "dim", "hidden_dim", "num_attention_heads")
VERSION = 1  # raise it when the same checkpoint gives another graph


class HuggingFace(Settings):
    """A model in Hugging Face's format: of the Hub, or a folder."""

    id: Annotated[
        str,
        Field(
            min_length=1,
            description="Name on the Hub (`google/vit-base-patch16-224`), a folder relative to the card, or a folder in an "
            "installed Python package (`package:NAME/FOLDER`).",
        ),
    ]
    revision: Annotated[
        Annotated[str, Field(pattern=COMMIT)] | None,
        Field(description="Commit of the Hub at which the model is taken."),
    ] = None
    layers: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | None,
        Field(description="Number of transformer layers that are kept, counted from the first; texts only."),
    ] = None
    adapters: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | None,
        Field(
            description="Rank of the low-rank adapters (LoRA) that `efflab train` trains, beside the head, in place of all "
            "weights; texts only."
        ),
    ] = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and what its configuration says; `commit` is "" for a folder that the card names."""

    name: str
    folder: Path
    commit: str
    pinned: bool  # the card names the commit
    config: dict[str, Any]
    preprocessor: dict[str, Any] | None
    weights: tuple[Path, ...]

    def content(self) -> dict[str, Any]:
        """Return what the model's identity depends on: the files, the commit, and how they become a graph."""
        names = (CONFIG, PREPROCESSOR, INDEX)
        paths = [path for path in (self.folder / name for name in names) if path.is_file()]
        files = {path.name: _digest(path) for path in (*paths, *self.weights)}
        return {"commit": self.commit, "files": files, "version": VERSION}


def lacking(packages: Sequence[str] = PACKAGES) -> str:
    """Return what to install before a checkpoint can be used (exported, by default), or ""."""
    missing = [name.partition(".")[0] for name in packages if not _installed(name)]
    if not missing:
        return ""
    return f'models of Hugging Face need {" and ".join(dict.fromkeys(missing))}: pip install "efflab[hf]"'


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def open_checkpoint(settings: HuggingFace, document: Document) -> Checkpoint:
    """Find the checkpoint that a card names and check its files; raise RequestError, placed in the card."""
    folder, commit = _locate(settings, document)
    place = document.where(KEY)
    config = read_json(folder / CONFIG, place)
    if config is None:
        what = f"{folder} has no {CONFIG}; a model's folder is what its save_pretrained writes"
        raise RequestError(Problem(place, what))
    weights = _weights(folder, place)
    for path in weights:
        check_safetensors(path, place)
    _check_sizes(config, weights, place)
    preprocessor = read_json(folder / PREPROCESSOR, place)
    return Checkpoint(settings.id, folder, commit, settings.revision is not None, config, preprocessor, weights)


def _check_sizes(config: dict[str, Any], weights: Sequence[Path], place: str) -> None:
    """Raise RequestError, placed at `place`, for a configuration of which no model with these weights can be built."""
    shapes = [shape for path in weights for shape in (read_header(path) or {"shapes": {}})["shapes"].values()]
    numbers = sum(math.prod(shape) for shape in shapes)
    for keys, most, what in ((LAYERS, len(shapes), "tensors"), (WIDTHS, numbers, "numbers")):
        for key in keys:
            found = config.get(key)
            if isinstance(found, int) and found > most:
                told = f"{CONFIG} says {key}: {found:,}, and its weights hold {most:,} {what} in all; bring what belongs together"
                raise RequestError(Problem(place, told))


def _locate(settings: HuggingFace, document: Document) -> tuple[Path, str]:
    """Return the folder of a checkpoint, and the commit if it is a model of the Hub."""
    try:
        if settings.id.startswith(PACKAGE):
            return package_folder(settings.id), ""
        folder = real(document.path.parent / Path(settings.id).expanduser())
    except RequestError as error:
        raise error.at(document.where(KEY)) from error
    except (RuntimeError, ValueError, OSError) as error:
        raise RequestError(Problem(document.where(KEY), f"{settings.id!r} names no folder ({error})")) from error
    if is_folder(folder):
        if settings.revision is not None:
            what = "a folder has no revision; only a model of the Hub takes one"
            raise RequestError(Problem(document.where((*KEY, "revision")), what))
        return folder, ""
    if not re.fullmatch(HUB_ID, settings.id):
        raise RequestError(Problem(document.where(KEY), f"the folder {folder} is missing{_neighbours(folder)}"))
    cached = hub_cache() / f"models--{settings.id.replace('/', '--')}"
    commit = settings.revision or _commit_of_main(cached)
    snapshot = cached / "snapshots" / commit
    if not commit or not snapshot.is_dir():
        raise RequestError(Problem(document.where(KEY), _not_cached(settings, folder)))
    return snapshot, commit


def hub_cache() -> Path:
    """Return the folder in which Hugging Face's own tools keep what they have fetched."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    return expanded(os.environ.get("HF_HUB_CACHE") or f"{home}/hub", "HF_HUB_CACHE")


def _commit_of_main(cached: Path) -> str:
    try:
        commit = (cached / "refs" / "main").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return commit if re.fullmatch(COMMIT, commit) else ""


def _not_cached(settings: HuggingFace, folder: Path) -> str:
    pinned = f" --revision {settings.revision}" if settings.revision else ""
    one = f"commit {settings.revision[:12]} of {settings.id}" if settings.revision else f"the model {settings.id}"
    command = f'hf download {settings.id}{pinned} --include "*.[js]*"'
    return (
        f"{one} is not in the Hub's cache ({hub_cache()}), and there is no folder {folder}{_neighbours(folder)}; "
        f"efflab fetches no model by itself: `{command}` does, or name a local folder"
    )


def _neighbours(folder: Path) -> str:
    known = [path.parent.name for path in folder.parent.glob(f"*/{CONFIG}")]
    return f" ({nearest(folder.name, known)})" if known else ""


def _weights(folder: Path, place: str) -> tuple[Path, ...]:
    """Return the weights' files: one, or the shards that the index names."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    index = read_json(folder / INDEX, place)
    if index is not None:
        named = index.get("weight_map")
        names = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
        # only files of the folder itself: an index must not point elsewhere
        wrong = [name for name in names if Path(name).name != name or not is_file(folder / name)]
        if wrong or not names:
            what = f"{INDEX} names {', '.join(wrong) or 'no files'}, which {folder} does not hold; bring all shards"
            raise RequestError(Problem(place, what))
        return tuple(folder / name for name in names)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    what = f"{folder} has no {WEIGHTS}"
    if pickled:
        what += f", only pickled weights ({', '.join(pickled)}), and nothing is unpickled; save the model again with "
        what += "save_pretrained(FOLDER, safe_serialization=True), or take a revision that has safetensors"
    raise RequestError(Problem(place, what))


def _digest(path: Path) -> str:
    state = path.stat()
    return _digest_of_state(path, state.st_mtime_ns, state.st_size)


@functools.cache
def _digest_of_state(path: Path, modified_ns: int, size: int) -> str:
    return file_digest(path)
