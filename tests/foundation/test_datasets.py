import errno
import hashlib
import io
import tarfile

import numpy as np
import pytest

from efflab.cli import data
from efflab.cli.main import main
from efflab.foundation import archives, datasets
from efflab.foundation.datasets import DataSet, fetch, missing
from efflab.foundation.errors import RequestError
from efflab.tasks.cifar10 import FILES, FOLDER, ROW, Cifar10


def archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("things/a.bin")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"12345"))
    return buffer.getvalue()


@pytest.fixture
def server(serve):
    body = archive()
    url, asked = serve("things.tar.gz", body)
    return url, body, asked


def source(url, body, sha256=None):
    return DataSet("things", url, sha256 or hashlib.sha256(body).hexdigest(), len(body), ("things/a.bin",))


def test_a_fetch_is_checked_unpacked_and_resumed(server, tmp_path):
    url, body, asked = server
    (tmp_path / "things.tar.gz.part").write_bytes(body[:20])
    fetch(source(url, body), tmp_path)
    assert asked == ["bytes=20-"]
    assert (tmp_path / "things" / "a.bin").read_bytes() == b"12345"
    assert missing(source(url, body), tmp_path) == []


def test_a_wrong_checksum_is_refused_and_nothing_unpacked(server, tmp_path):
    url, body, _ = server
    with pytest.raises(RequestError, match="sha256"):
        fetch(source(url, body, "0" * 64), tmp_path)
    assert not (tmp_path / "things").exists()


def test_offline_says_where_to_put_the_archive(tmp_path):
    with pytest.raises(RequestError, match="Offline, put the archive at"):
        fetch(source("http://127.0.0.1:9/things.tar.gz", b"x"), tmp_path)


def test_what_changed_on_disk_is_unpacked_or_fetched_again(server, tmp_path, monkeypatch, capsys):
    url, body, asked = server
    monkeypatch.setenv("EFFLAB_DATA", str(tmp_path))
    monkeypatch.setattr(data, "_sources", lambda: {"things": source(url, body)})
    folder, words = tmp_path / "things", ["data", "things"]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out == f"things is present in {folder}\n"
    (folder / "things" / "a.bin").write_bytes(b"54321")
    assert main(words) == 0
    assert "things/a.bin in" in capsys.readouterr().out
    assert (folder / "things" / "a.bin").read_bytes() == b"12345"
    assert len(asked) == 1  # the archive is there and as it was
    (folder / "things" / "a.bin").unlink()
    (folder / "things.tar.gz").write_bytes(body[:-1] + b"x")
    assert main(words) == 0
    assert (folder / "things" / "a.bin").read_bytes() == b"12345"
    assert len(asked) == 2
    (folder / datasets.DIGESTS).unlink()
    assert main(words) == 0
    assert "efflab did not unpack it, so it is not checked" in capsys.readouterr().out


def test_a_full_disk_while_unpacking_is_said_so(server, tmp_path, monkeypatch):
    url, body, asked = server

    def full(path, folder):
        folder.mkdir()
        (folder / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archives, "unpack_tar", full)
        with pytest.raises(RequestError, match="is full; the archive is kept"):
            fetch(source(url, body), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["things.tar.gz"]
    fetch(source(url, body), tmp_path)
    assert len(asked) == 1
    assert missing(source(url, body), tmp_path) == []


def test_an_archive_without_the_files_replaces_nothing(server, tmp_path):
    url, body, _ = server
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "mine").write_text("mine")
    wrong = DataSet("things", url, hashlib.sha256(body).hexdigest(), len(body), ("things/b.bin",))
    with pytest.raises(RequestError, match="does not hold things/b.bin"):
        fetch(wrong, tmp_path)
    assert (tmp_path / "things" / "mine").read_text() == "mine"


def write_cifar(folder):
    (folder / FOLDER).mkdir(parents=True)
    rows = np.zeros((10_000, ROW), np.uint8)
    for number, name in enumerate(FILES["train"] + FILES["test"]):
        rows[:, 0] = np.arange(10_000) % 10
        rows[:, 1] = number
        rows.tofile(folder / FOLDER / name)


def test_cifar10_is_split_and_normalised_as_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFLAB_DATA", str(tmp_path))
    with pytest.raises(RequestError, match="efflab data cifar10"):
        Cifar10().digest()
    write_cifar(tmp_path / "cifar10")
    task = Cifar10()
    assert [len(task.split(name)) for name in ("train", "validation", "test")] == [45_000, 5_000, 10_000]
    image = task.split("test").inputs[0][0]
    assert image.shape == (3, 32, 32)
    assert image[0, 0, 0] == pytest.approx((5 / 255 - 0.485) / 0.229)  # the sixth file marks its first pixel with a 5
    assert image[2, 3, 3] == pytest.approx(-0.406 / 0.225)
    before = task.digest()
    path = tmp_path / "cifar10" / FOLDER / FILES["test"][0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RequestError, match="damaged"):
        Cifar10().split("test")
    assert Cifar10().digest() != before
