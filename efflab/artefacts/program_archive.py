"""The archive of a torch.export file: what is in it is checked, and copied into a new one, which alone PyTorch reads."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from efflab.artefacts.program_schema import checked_program
from efflab.foundation.archives import bound_zip
from efflab.foundation.errors import Problem, RequestError

MODEL = "models/model.json"
CONFIGS = {"data/weights/model_weights_config.json": "weight_", "data/constants/model_constants_config.json": "tensor_"}
SAMPLES = "data/sample_inputs/model.pt"
COPIED = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/version|\.data/serialization_id"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
)
LEFT_OUT = ("extra/",)  # a user's notes, which no program needs
MOST_JSON = 100_000_000  # bytes of the model's JSON
MOST_VALUES = 100_000_000  # numbers of a weight that the file does not spell out one by one
LEGACY = ("data/weights/model.pt", "data/constants/model.pt")


def copy_checked(path: Path, target: Path) -> Any:
    """Write into `target` a copy of a torch.export file in which nothing can run; return its model's JSON.

    PyTorch is given the copy, since another reader of the same archive might see other files in it. Raises RequestError for
    a file that holds code, pickled objects, or more than a program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, path)
            texts = _texts(archive, entries, path)
            with zipfile.ZipFile(target, "w") as copy:
                for name, entry in entries.items():
                    if name in texts:
                        copy.writestr(f"model/{name}", texts[name])
                    elif COPIED.fullmatch(name):
                        with archive.open(entry) as source, copy.open(f"model/{name}", "w", force_zip64=True) as file:
                            shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} is no torch.export file ({error})") from error
    return json.loads(texts[MODEL])


def check_program_file(path: Path) -> None:
    """Raise RequestError for a torch.export file that `copy_checked` refuses, without copying it and without torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            _texts(archive, _entries(archive, path), path, samples=False)
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} is no torch.export file ({error})") from error


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names within its one folder; raise RequestError for what does not belong there."""
    listed = [entry for entry in archive.infolist() if not entry.is_dir()]
    bound_zip(path, listed)
    found = {entry.filename.partition("/")[2]: entry for entry in listed}
    if len(found) < len(listed) or len({entry.filename.partition("/")[0] for entry in listed}) > 1:
        raise RequestError(f"{path} is no torch.export file (it has more than one folder)")
    if MODEL not in found or not CONFIGS.keys() <= found.keys():
        if any(name in found for name in LEGACY):
            raise RequestError(_pickled(path))
        raise RequestError(f"{path} has the format of an old torch.export; save it again with torch 2.9 or newer")
    known = {MODEL, SAMPLES, *CONFIGS}
    odd = [name for name in found if name not in known and not COPIED.fullmatch(name) and not name.startswith(LEFT_OUT)]
    if any(name in LEGACY or name.startswith("data/constants/") for name in odd):
        raise RequestError(_pickled(path))
    if odd:
        what = "compiled code" if odd[0].startswith("data/aotinductor/") else "more than a program and its weights"
        raise RequestError(
            f"{path} holds {what} ({odd[0][:100]}), which could run; save the program by torch.export.save"
        )
    return found


def _pickled(path: Path) -> str:
    return f"{path} holds pickled objects, which could run code; export plain tensors only"


def _texts(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], path: Path, samples: bool = True
) -> dict[str, bytes]:
    """Return what the copy holds of those files that say how to load the others, once it is checked."""
    content = checked_program(_json(archive, entries[MODEL], path), f"{path}: {MODEL}")
    texts = {MODEL: json.dumps(content).encode()}
    for name, prefix in CONFIGS.items():
        config = checked_program(_json(archive, entries[name], path), f"{path}: {name}")
        _check_config(config, name, prefix, entries, path)
        texts[name] = json.dumps(config).encode()
    given = archive.read(entries[SAMPLES]) if samples and SAMPLES in entries else b""
    if given:
        _check_samples(given, path)
    return {**texts, SAMPLES: given}


def _json(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> dict[str, Any]:
    if entry.file_size > MOST_JSON:
        raise RequestError(f"{path}: {entry.filename} is larger than {MOST_JSON:,} bytes; this is no model's structure")
    content = json.loads(archive.read(entry))
    if not isinstance(content, dict):
        raise RequestError(f"{path} is no torch.export file ({entry.filename} holds no mapping)")
    return content


def _check_config(
    config: dict[str, Any], name: str, prefix: str, entries: dict[str, zipfile.ZipInfo], path: Path
) -> None:
    """Raise RequestError for a list of weights that names pickled ones, ones that are not there, or larger ones than there are."""
    folder = name.rpartition("/")[0]
    for weight, entry in config.get("config", {}).items():
        place = Problem(f"{path}: {name}: {weight}", "")
        try:
            file, shape = entry["path_name"], [int(side["as_int"]) for side in entry["tensor_meta"]["sizes"]]
        except (KeyError, TypeError):
            raise RequestError(_pickled(path)) from None
        if entry.get("use_pickle") is not False or not file.startswith(prefix):
            raise RequestError(_pickled(path))
        stored = entries.get(f"{folder}/{file}")
        if stored is None:
            raise RequestError(Problem(place.where, f"its file {file} is missing"))
        if math.prod(shape) > max(stored.file_size, MOST_VALUES):
            raise RequestError(
                Problem(place.where, f"has {math.prod(shape):,} numbers, and its file {stored.file_size:,} bytes")
            )


def _check_samples(content: bytes, path: Path) -> None:
    """Raise RequestError for sample inputs that are more than tensors in lists, tuples and mappings."""
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 2 * len(content):
                raise ValueError("they unpack to more than they are")
        torch.load(io.BytesIO(content), weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        raise RequestError(_pickled(path)) from error
