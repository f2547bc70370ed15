import json
from pathlib import Path

import pytest
from studies import example_study

from efflab.comparison import compare, remembered
from efflab.comparison.remembered import compared
from efflab.records.store import LocalStore
from efflab.records.study import save_study


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_study(example_study(), tmp_path / "study.json")
    return tmp_path / "study.json"


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("worked out again")


def test_rows_of_an_unchanged_study_are_read_not_worked_out(file, tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    first = compared([file], ["latency"], store)
    monkeypatch.setattr(compare, "assess", forbidden)
    again = compared([file], ["latency"], store)
    assert again.draws == first.draws
    assert [repr(row) for row in again.rows] == [repr(row) for row in first.rows]
    with pytest.raises(AssertionError, match="worked out again"):
        compared([file], ["macs"], store)  # other axes are another question


@pytest.mark.parametrize("what", ["study", "samples", "code"])
def test_what_changed_is_worked_out_again(file, tmp_path, monkeypatch, what):
    store = LocalStore(tmp_path / "store")
    compared([file], ["latency"], store)
    if what == "code":
        monkeypatch.setattr(remembered, "_code", lambda: "other")
    else:
        study = example_study()
        study["records"].pop()
        save_study(study, file) if what == "study" else (tmp_path / "samples.npz").write_bytes(b"x")
    monkeypatch.setattr(compare, "assess", forbidden)
    if what == "samples":  # the study says what its samples must be
        with pytest.raises(Exception, match="samples"):
            compared([file], ["latency"], store)
        return
    with pytest.raises(AssertionError, match="worked out again"):
        compared([file], ["latency"], store)


def test_what_was_kept_and_altered_is_not_believed(file, tmp_path):
    store = LocalStore(tmp_path / "store")
    first = compared([file], ["latency"], store)
    (kept,) = (tmp_path / "store" / remembered.FOLDER).iterdir()
    content = json.loads(kept.read_text())
    content["content"] = content["content"].replace('"variant":"int8"', '"variant":"best"')
    kept.write_text(json.dumps(content))
    assert [row.variant for row in compared([file], ["latency"], store).rows] == [row.variant for row in first.rows]


def test_without_a_store_rows_are_worked_out(file):
    assert compared([file], ["latency"], None).rows
