"""Finds cards: by name beside the recipe, in `baselines/`, or in efflab's own checkout."""

from __future__ import annotations

import os
from pathlib import Path

from efflab.foundation.errors import RequestError, nearest
from efflab.foundation.files import is_file, real
from efflab.foundation.wording import shown


def card_folders(near: Path | None = None) -> list[Path]:
    """Return where cards are looked up: beside the recipe's folder, the working directory, and efflab's own checkout."""
    folders = [Path("baselines"), Path(__file__).parents[2] / "baselines"]
    if near is not None:
        # resolved, since the parent of a bare file name's folder is that folder again
        around = real(near).parent
        folders = [_short(around), _short(around.parent / "baselines"), *folders]
    unique: dict[Path, Path] = {real(folder): folder for folder in reversed(folders) if folder.is_dir()}
    return list(reversed(unique.values()))


def _short(path: Path) -> Path:
    """Return a path as messages show it: from the working directory, where that is shorter."""
    return Path(min(str(path), os.path.relpath(path), key=len))


def card_files(near: Path | None = None) -> dict[str, Path]:
    """Return all cards that can be named, name -> file; a file's name is the card's name."""
    found: dict[str, Path] = {}
    for folder in card_folders(near):
        # a recipe's own folder is searched too, but recipes in it are not cards
        for path in sorted(folder.glob("*.yaml")):
            if real(folder).name == "baselines" or (near is not None and real(path) != real(near)):
                found.setdefault(path.stem, path)
    return found


def find_card(name: str, near: Path | None = None) -> Path:
    """Return the file of the card `name` (a name, or a path to a YAML file); raise RequestError naming the nearest."""
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        for base in [near.parent if near else Path(), Path()]:
            if is_file(base / name):
                return base / name
        raise RequestError(f"there is no card at {name}")
    files = card_files(near)
    if name not in files:
        if is_file(Path(name)):
            raise RequestError(f"{name} is no card; a card is a YAML file, named with or without its .yaml")
        known = (key for key, path in files.items() if real(path).parent.name == "baselines")
        raise RequestError(f"unknown baseline {shown(name)}; {nearest(name, known)}")
    return files[name]
