"""Fetches and checks data sets: resumable download, sha256, unpacking beside and renaming."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from efflab.foundation.errors import RequestError, disk_full
from efflab.foundation.files import expanded, file_digest, write_atomically
from efflab.foundation.outside import content_of, parsed_json

DIGESTS = ".digests.json"  # of what was unpacked, by which later changes are found


@dataclass(frozen=True)
class DataSet:
    """Where a data set comes from: one tar archive, its sha256 and size, and the files that it must hold."""

    name: str
    url: str
    sha256: str
    bytes: int
    holds: tuple[str, ...]
    note: str = ""


def data_folder() -> Path:
    """Return the folder of data sets: EFFLAB_DATA, else `~/.cache/efflab/data`."""
    return expanded(os.environ.get("EFFLAB_DATA") or "~/.cache/efflab/data", "EFFLAB_DATA")


def missing(source: DataSet, folder: Path) -> list[str]:
    """Return those files of a data set that are not in `folder`."""
    return [name for name in source.holds if not (folder / name).exists()]


def altered(source: DataSet, folder: Path) -> list[str]:
    """Return those files of a data set that are not as they were unpacked; none where efflab did not unpack them."""
    known = unpacked_digests(folder) or {}
    return [name for name in source.holds if name in known and file_digest(folder / name) != known[name]]


def unpacked_digests(folder: Path) -> dict[str, str] | None:
    """Return the sha256 of each file that efflab unpacked in `folder`, None where somebody else put them there."""
    try:
        found = parsed_json(content_of(folder / DIGESTS))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def fetch(source: DataSet, folder: Path, report: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Download, check and unpack a data set into `folder`; an interrupted download goes on where it stopped.

    Raises RequestError with the address and the place for the file if the machine is offline or the checksum differs.
    """
    from efflab.foundation.downloads import Remote, fetch_file

    archive = folder / source.url.rsplit("/", 1)[-1]
    remote = Remote(source.url, source.sha256, source.bytes, "archive")
    fetch_file(remote, archive, lambda done: report(done, source.bytes))
    _unpack(source, archive, folder)
    write_atomically(folder / DIGESTS, json.dumps({name: file_digest(folder / name) for name in source.holds}))


def _unpack(source: DataSet, archive: Path, folder: Path) -> None:
    """Unpack an archive beside, and rename what it holds; an error leaves what was there before."""
    import tarfile

    from efflab.foundation.archives import unpack_tar

    unpacked = folder / ".unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        unpack_tar(archive, unpacked)
        lacking = missing(source, unpacked)
        if lacking:
            raise RequestError(f"{archive} does not hold {', '.join(lacking)}")
        for entry in unpacked.iterdir():
            target = folder / entry.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            entry.replace(target)
    except (tarfile.TarError, OSError) as error:
        if disk_full(error):
            what = f"the disk of {folder} is full; the archive is kept, and the same command goes on from there"
            raise RequestError(what) from error
        raise RequestError(f"{archive} cannot be unpacked into {folder}: {error}") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
