"""Archives from outside unpack to a bounded amount, within their folder, or end in words."""

import contextlib
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

from efflab.foundation import archives
from efflab.foundation.archives import bound_zip, unpack_tar
from efflab.foundation.errors import RequestError


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 200_000)


def tar(path, entries, mode="w:gz", **options):
    with tarfile.open(path, mode, **options) as archive:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
            elif content:
                entry.linkname = content
            archive.addfile(entry, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_plain_archive_is_unpacked(mode, tmp_path):
    entries = [("a/b.bin", tarfile.REGTYPE, b"12345"), ("a/c.bin", tarfile.REGTYPE, bytes(70_000))]
    entries.append(("a/l", tarfile.SYMTYPE, "b.bin"))
    unpack_tar(tar(tmp_path / "a.tar", entries, mode), tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b.bin").read_bytes() == b"12345"
    assert (tmp_path / "out" / "a" / "c.bin").stat().st_size == 70_000
    assert (tmp_path / "out" / "a" / "l").read_bytes() == b"12345"


HOSTILE = [
    ("../evil", tarfile.REGTYPE, b"x"),
    ("/tmp/evil", tarfile.SYMTYPE, "/etc/passwd"),
    ("link", tarfile.SYMTYPE, "../../outside"),
    ("link", tarfile.SYMTYPE, "/etc"),
    ("hard", tarfile.LNKTYPE, "/etc/passwd"),
    ("device", tarfile.CHRTYPE, ""),
    ("pipe", tarfile.FIFOTYPE, ""),
]


@pytest.mark.parametrize("entry", HOSTILE, ids=[f"{name}-{kind.decode()}" for name, kind, _ in HOSTILE])
def test_what_leaves_the_folder_or_is_no_file_is_refused(entry, tmp_path):
    path = tar(tmp_path / "a.tar", [entry])
    with pytest.raises(RequestError, match="holds what may not be unpacked"):
        unpack_tar(path, tmp_path / "in" / "out")
    found = [one for one in tmp_path.rglob("*") if not one.is_dir()]
    assert found == [path]


@pytest.mark.parametrize("opener", [gzip.open, lzma.open])
@pytest.mark.parametrize("kind", ["file", "name", "attribute", "many"])
def test_a_bomb_is_refused_before_it_fills_anything(kind, opener, tmp_path):
    path, big = tmp_path / "bomb.tar", 6_000_000
    with opener(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a" * big if kind == "name" else "a")
        entry.pax_headers = {"comment": "x" * big} if kind == "attribute" else {}
        entry.size = big if kind == "file" else 0
        archive.addfile(entry, io.BytesIO(bytes(big)) if kind == "file" else None)
        for number in range(3000 if kind == "many" else 0):
            archive.addfile(tarfile.TarInfo(f"{number:0200d}"))
    assert path.stat().st_size * archives.MOST_RATIO < big or kind == "many"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "MOST_FILES", 1000)
        with pytest.raises(RequestError, match="unpacks to more than 100 times its size"):
            unpack_tar(path, tmp_path / "out")
    assert sum(one.stat().st_size for one in tmp_path.rglob("*") if one.is_file()) < 1_000_000


@pytest.mark.parametrize("length", [0, 1, 100, 5000])
def test_a_cut_archive_is_no_archive(length, tmp_path):
    import secrets

    path = tar(tmp_path / "a.tar", [("a", tarfile.REGTYPE, secrets.token_bytes(20_000))])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises((tarfile.TarError, OSError)):
        unpack_tar(path, tmp_path / "out")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_damaged_archive_is_no_archive(mode, tmp_path):
    path = tar(
        tmp_path / "a.tar", [(f"a{number}", tarfile.REGTYPE, bytes(range(256)) * 8) for number in range(20)], mode
    )
    whole = path.read_bytes()
    for place in range(12, len(whole) - 1, max(1, len(whole) // 20)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(tarfile.TarError, OSError, RequestError):
            unpack_tar(path, tmp_path / "out")


def test_a_zip_bomb_and_a_file_twice_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10_000_000))
    with zipfile.ZipFile(path) as archive, pytest.raises(RequestError, match="unpacks to more than 100 times"):
        bound_zip(path, archive.infolist())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
        archive.filelist.append(archive.filelist[0])
    with zipfile.ZipFile(path) as archive, pytest.raises(RequestError, match="of the same name twice"):
        bound_zip(path, archive.infolist())
