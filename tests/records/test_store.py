import json

import pytest

from efflab.foundation.errors import RequestError
from efflab.records.store import LocalStore, altered, open_store, study_path


@pytest.fixture
def store(tmp_path):
    store = LocalStore.open(tmp_path / "store")
    store.prepare()
    return store


def finish(store, name="a"):
    (store.work_folder(name) / "weights").write_bytes(b"12345")
    store.put(name, store.work_folder(name), {"value": 1}, {"kind": "step"})


def test_a_stage_is_there_only_after_it_was_put(store):
    (store.work_folder("a") / "weights").write_bytes(b"123")
    assert store.result("a") is None
    assert not store.holds("a")
    finish(store)
    assert store.result("a") == {"value": 1}
    assert store.finished("a").about == {"kind": "step"}
    assert store.holds("a")


def test_a_changed_or_lost_file_makes_a_stage_unfinished(store):
    finish(store)
    (store.fetch("a") / "weights").write_bytes(b"12346")
    assert store.result("a") is None
    (store.fetch("a") / "weights").unlink()
    assert store.result("a") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored["result"].update(value=2),
        lambda stored: stored["about"].update(kind="quality"),
        lambda stored: stored["files"].clear(),
        lambda stored: stored.pop("sha256"),
        lambda stored: stored.update(schema=1),
    ],
)
def test_a_result_that_is_not_what_was_written_makes_a_stage_unfinished(store, change):
    finish(store)
    path = store.fetch("a") / "stage.json"
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))
    assert store.finished("a") is None
    assert altered(store, "a")


def test_a_stage_under_the_id_of_another_is_not_finished(store):
    finish(store)
    store.fetch("a").rename(store.fetch("b"))
    assert store.finished("b") is None


def test_a_half_written_result_makes_a_stage_unfinished(store):
    finish(store)
    path = store.fetch("a") / "stage.json"
    path.write_text(path.read_text()[:20])
    assert store.result("a") is None


def test_a_store_of_a_newer_efflab_is_refused_and_left_alone(store):
    mark = store.root / "store.json"
    mark.write_text(json.dumps({"schema": 99}))
    with pytest.raises(RequestError, match="newer efflab"):
        LocalStore.open(store.root)
    assert json.loads(mark.read_text()) == {"schema": 99}
    for text in ("{", "null", "[]", "5", '{"schema": "x"}', '{"schema": -1}', '{"schema": true}', "{}"):
        mark.write_text(text)
        with pytest.raises(RequestError, match="store.json is damaged; move the folder"):
            LocalStore.open(store.root)


def test_two_runs_in_one_store_are_refused(store):
    with store.lock(), pytest.raises(RequestError, match="another efflab run"), store.lock():
        pass


def test_what_an_interrupted_stage_left_is_there_for_its_next_try(store):
    (store.work_folder("a") / "training.safetensors").write_bytes(b"half")
    assert (store.work_folder("a") / "training.safetensors").read_bytes() == b"half"


def test_a_store_is_opened_anywhere_by_its_address(store, monkeypatch, tmp_path):
    finish(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_store(store.address).result("a") == {"value": 1}
    with pytest.raises(RequestError, match="no installed package opens stores at bucket://"):
        open_store("bucket://one")


def test_studies_are_found_by_name_path_and_folder(in_folder):
    path = in_folder / ".efflab" / "studies" / "mine" / "study.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert study_path("mine").resolve() == path
    assert study_path(str(path.parent)) == path
    assert study_path(str(path)) == path
    (in_folder / "r.yaml").write_text("name: mine\n")
    assert study_path("r.yaml").resolve() == path
    with pytest.raises(RequestError, match="did you mean 'mine'"):
        study_path("mime")
