"""Files are written whole or not at all."""

import errno

import pytest

from efflab.foundation.files import replaced, write_atomically


def write_half(path, part):
    with replaced(path, part) as found:
        found.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    for named in (None, tmp_path / "a.part"):
        with pytest.raises(OSError, match="No space"):
            write_half(path, named)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_full_device_leaves_nothing(tmp_path):
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"), replaced(tmp_path / "a", tmp_path / "a.part") as part:
        part.write_text("content")
    assert list(tmp_path.iterdir()) == []
