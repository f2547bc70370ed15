"""Where finished stages are kept: what any store does, and the store that is a folder.

The folder has one folder per stage id, written beside and renamed, with sha256 of its files; interrupted work resumes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from efflab.foundation.errors import RequestError
from efflab.foundation.files import expanded, file_digest, write_atomically
from efflab.foundation.outside import DIGEST, content_of, digest_of, loaded, parsed_json, text_of, with_digest
from efflab.foundation.registry import entry_points

SCHEMA = 1
STAGE_SCHEMA = 2  # what schema 1 held is under ids that no plan gives any more
RESULT = "stage.json"
ALTERED = "what is stored of it is not what was written there; it is made again"


@dataclass(frozen=True)
class Finished:
    """A finished stage: its result, and what it is of: kind, title, spec, seconds, and the machine that did it."""

    result: dict[str, Any]
    about: dict[str, Any]


class Store(Protocol):
    """Where finished stages are, by their ids; whoever knows its address can take what is there and put what it made."""

    @property
    def address(self) -> str:
        """What `open_store` opens it by, anywhere."""

    def holds(self, stage_id: str) -> bool:
        """Say whether a stage is finished, without looking at its files."""

    def finished(self, stage_id: str) -> Finished | None:
        """Return a finished stage, or None if it is not finished, or its files are not as they were written."""

    def fetch(self, stage_id: str) -> Path:
        """Return a folder of this machine with a finished stage's files, to be read only."""

    def put(self, stage_id: str, folder: Path, result: dict[str, Any], about: dict[str, Any]) -> None:
        """Make what lies in a work folder the stage's files, all at once; the folder goes with it."""

    def work_folder(self, stage_id: str) -> Path:
        """Return the folder of this machine in which a stage works; what an interrupted try left there is kept for it."""

    def discard(self, stage_id: str) -> None:
        """Forget what an unfinished try left."""

    def remove(self, stage_id: str) -> None:
        """Forget a stage."""


def altered(store: Store, stage_id: str) -> bool:
    """Say whether a store holds a stage that is not as it was written."""
    return store.holds(stage_id) and store.finished(stage_id) is None


def open_store(address: str) -> Store:
    """Open the store at an address: a folder, or `scheme://...`, where an installed package knows the scheme.

    Such a package has an entry point of the group `efflab.stores` of that name, which takes the address.
    """
    scheme, mark, _ = address.partition("://")
    if not mark:
        return LocalStore(Path(address))
    for point in entry_points("efflab.stores").select(name=scheme):
        store: Store = point.load()(address)
        return store
    raise RequestError(f"no installed package opens stores at {scheme}:// (entry points of efflab.stores)")


class LocalStore:
    """A folder of finished stages: `stages/<id>/` with `stage.json` and the stage's files."""

    def __init__(self, root: Path):
        self.root = root

    @classmethod
    def open(cls, root: Path | None = None) -> LocalStore:
        """Open (or start) a store: `root`, else EFFLAB_STORE, else `.efflab`. Refuses one of a newer schema."""
        store = cls(root or expanded(os.environ.get("EFFLAB_STORE") or ".efflab", "EFFLAB_STORE"))
        mark = store.root / "store.json"
        if mark.exists():
            try:
                schema = parsed_json(content_of(mark))["schema"]
            except (OSError, ValueError, KeyError, TypeError):
                schema = None
            if type(schema) is not int or schema < 1:
                raise RequestError(f"{mark} is damaged; move the folder {store.root} away to start afresh")
            if schema > SCHEMA:
                raise RequestError(
                    f"the store {store.root} was written by a newer efflab (schema {schema}, this one knows {SCHEMA})"
                )
        return store

    @property
    def address(self) -> str:
        """What `open_store` opens it by on this machine."""
        return str(self.root.resolve())

    def prepare(self) -> None:
        """Make the store's folders."""
        for name in ("stages", "work", "studies"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        mark = self.root / "store.json"
        if not mark.exists():
            write_atomically(mark, json.dumps({"schema": SCHEMA}))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for one run; raise RequestError while another process of this machine runs in it."""
        with (self.root / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RequestError(
                    f"another efflab run is at work in {self.root}; wait for it, or set EFFLAB_STORE"
                ) from error
            yield

    def fetch(self, stage_id: str) -> Path:
        """Return where a finished stage's files are."""
        return self.root / "stages" / stage_id

    def holds(self, stage_id: str) -> bool:
        """Say whether a stage is finished, without looking at its files."""
        return (self.fetch(stage_id) / RESULT).is_file()

    def finished(self, stage_id: str) -> Finished | None:
        """Return a finished stage, or None if it is not finished, or its files are not as they were written."""
        folder = self.fetch(stage_id)
        try:
            stored, _ = loaded(text_of(folder / RESULT))
            if stored["schema"] > STAGE_SCHEMA:
                raise RequestError(f"{folder} was written by a newer efflab")
            told = stored.pop(DIGEST)
            intact = (stored["id"], told) == (stage_id, digest_of(stored)) and all(
                file_digest(folder / name) == digest for name, digest in stored["files"].items()
            )
            return Finished(stored["result"], stored["about"]) if intact else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def result(self, stage_id: str) -> dict[str, Any] | None:
        """Return the result of a finished stage, else None."""
        found = self.finished(stage_id)
        return found.result if found else None

    def work_folder(self, stage_id: str) -> Path:
        """Return the folder in which a stage works; what an interrupted try left there is kept for it."""
        folder = self.root / "work" / stage_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def put(self, stage_id: str, folder: Path, result: dict[str, Any], about: dict[str, Any]) -> None:
        """Make a stage's work folder its finished folder, in one rename."""
        final = self.fetch(stage_id)
        files = {
            path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != RESULT
        }
        stored = {"schema": STAGE_SCHEMA, "id": stage_id, "about": about, "result": result, "files": files}
        (folder / RESULT).write_text(json.dumps(with_digest(stored)))
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            shutil.rmtree(final)
        folder.replace(final)

    def discard(self, stage_id: str) -> None:
        """Forget what an unfinished try left."""
        shutil.rmtree(self.root / "work" / stage_id, ignore_errors=True)

    def remove(self, stage_id: str) -> None:
        """Forget a stage."""
        shutil.rmtree(self.fetch(stage_id), ignore_errors=True)
        self.discard(stage_id)

    def study_file(self, name: str) -> Path:
        """Return where the study of the recipe `name` is written."""
        return self.root / "studies" / name / "study.json"


def study_path(name_or_path: str) -> Path:
    """Find a study: a study.json, a folder holding one, or the name or path of a recipe that was run."""
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "study.json"
    if path.suffix == ".json":
        if not path.exists():
            raise RequestError(f"there is no study at {path}")
        return path
    if path.suffix in (".yaml", ".yml"):
        from efflab.foundation.config import read_yaml

        name_or_path = str(read_yaml(path).data.get("name", path.stem))
    found = LocalStore.open().study_file(name_or_path)
    if not found.exists():
        from efflab.foundation.errors import nearest

        known = [entry.parent.name for entry in found.parents[1].glob("*/study.json")]
        raise RequestError(
            f"no study named {name_or_path!r} in {found.parents[2]}; {nearest(name_or_path, known)}; `efflab run` makes one"
        )
    return found
