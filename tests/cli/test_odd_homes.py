"""Where nobody knows a home folder, or it cannot be written, commands say so in words or do without it."""

import pwd

import pytest

from efflab.cli.main import main
from efflab.foundation.errors import RequestError
from efflab.foundation.files import expanded
from efflab.records.store import LocalStore


@pytest.fixture
def homeless(in_folder, monkeypatch):
    def unknown(user):
        raise KeyError(user)

    for name in ("HOME", "EFFLAB_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return in_folder


def test_doctor_shows_the_machine_without_a_home(homeless, capsys):
    assert main(["doctor", "--format", "json"]) == 0
    assert (
        "~/.cache/efflab/data lies in a home folder, and no such folder is known; set HOME" in capsys.readouterr().out
    )


def test_data_sets_and_stores_without_a_home_are_told_what_to_set(homeless, capsys, monkeypatch):
    assert main(["data"]) == 2
    assert "set HOME, or name a folder by EFFLAB_DATA" in capsys.readouterr().err
    monkeypatch.setenv("EFFLAB_STORE", "~/store")
    assert main(["compare", "digits"]) == 2
    assert "set HOME, or name a folder by EFFLAB_STORE" in capsys.readouterr().err
    assert main(["ls", "tasks"]) == 0


def test_the_tilde_of_a_store_is_the_home_folder(in_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(in_folder))
    monkeypatch.setenv("EFFLAB_STORE", "~/store")
    assert LocalStore.open().root == in_folder / "store"


def test_a_home_of_nobody_is_said_so():
    with pytest.raises(RequestError, match="~nobodyofthisname/x lies in a home folder, and no such folder is known"):
        expanded("~nobodyofthisname/x", "EFFLAB_DATA")


def test_a_home_that_cannot_be_written_is_said_so(in_folder, monkeypatch, capsys):
    monkeypatch.delenv("EFFLAB_DATA", raising=False)
    (in_folder / "home").write_text("a file")
    monkeypatch.setenv("HOME", str(in_folder / "home"))
    assert main(["data", "cifar10"]) == 2
    assert "cannot be written" in capsys.readouterr().err
