"""Fetches and checks data sets: resumable download, sha256, unpacking beside and renaming."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest

CHUNK = 1 << 20


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
    return Path(os.environ.get("EFFLAB_DATA") or "~/.cache/efflab/data").expanduser()


def missing(source: DataSet, folder: Path) -> list[str]:
    """Return those files of a data set that are not in `folder`."""
    return [name for name in source.holds if not (folder / name).exists()]


def fetch(source: DataSet, folder: Path, report: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Download, check and unpack a data set into `folder`; an interrupted download goes on where it stopped.

    Raises RequestError with the address and the place for the file if the machine is offline or the checksum differs.
    """
    import tarfile

    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / source.url.rsplit("/", 1)[-1]
    if not archive.exists():
        _download(source, archive.with_name(archive.name + ".part"), report)
        archive.with_name(archive.name + ".part").replace(archive)
    digest = file_digest(archive)
    if digest != source.sha256:
        raise RequestError(f"{archive} has sha256 {digest}, expected {source.sha256}; delete it and fetch again")
    unpacked = folder / ".unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        for entry in unpacked.iterdir():
            target = folder / entry.name
            if target.exists():
                shutil.rmtree(target)
            entry.replace(target)
    except (tarfile.TarError, OSError) as error:
        raise RequestError(f"{archive} cannot be unpacked into {folder}: {error}") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    lacking = missing(source, folder)
    if lacking:
        raise RequestError(f"{archive} does not hold {', '.join(lacking)}")


def _download(source: DataSet, part: Path, report: Callable[[int, int], None]) -> None:
    import urllib.error
    import urllib.request

    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response, part.open("ab") as file:
            if have and response.status != 206:  # the server does not resume: start over
                file.truncate(0)
                have = 0
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                report(have, source.bytes)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing left to fetch
            return
        raise RequestError(f"{source.url} answers {error.code} {error.reason}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise RequestError(
            f"cannot fetch {source.url} ({reason}); what has come is kept and the same command goes on from there. "
            f"Offline, put the archive at {part.with_name(part.name.removesuffix('.part'))}"
        ) from error
    if have < source.bytes:
        raise RequestError(
            f"{source.url} broke off at {have:,} of {source.bytes:,} bytes; run the same command to go on"
        )
