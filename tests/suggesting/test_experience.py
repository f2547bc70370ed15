import json

import pytest
from studies import example_study

from efflab.errors import RequestError
from efflab.store import Store
from efflab.study import save_study
from efflab.suggesting import experience as experience_file
from efflab.suggesting.experience import read, recipes, study_files

RATIO = {"prune_channels": {"ratio": 0.5}}


def known_steps(study: dict) -> dict:
    """The example study with settings that every technique in it accepts."""
    for record in study["records"]:
        record["steps"] = [RATIO if "prune_channels" in step else step for step in record["steps"]]
    return study


@pytest.fixture
def folder(tmp_path):
    save_study(known_steps(example_study()), tmp_path / "good" / "study.json")
    return tmp_path


def test_studies_of_mixed_versions_are_left_out_one_by_one_with_the_reason(folder):
    newer, damaged, torn = (folder / name / "study.json" for name in ("newer", "damaged", "torn"))
    save_study({**example_study(), "schema": 99}, newer)
    broken = example_study()
    del broken["records"][3]["work"]["macs"]
    save_study(broken, damaged)
    torn.parent.mkdir()
    torn.write_text('{"schema": 1, "rec')
    strange = known_steps(example_study(name="strange"))
    for record in strange["records"]:
        record["steps"] = [{"prune_by_mood": {}} if "cast" in step else step for step in record["steps"]]
    save_study(strange, folder / "strange" / "study.json")

    found = read(study_files([folder]))
    assert (found.studies, found.records) == (2, 2 * len(strange["records"]))
    assert len(found.notes) == 4
    text = "\n".join(found.notes)
    assert f"{newer} is left out: written by a newer efflab (schema 99" in text
    assert f"{damaged} is left out: a damaged study: records[3]" in text
    assert f"{torn} is left out: not a study file" in text
    assert (
        "2 outcomes left out, with steps that this version does not know or not with these settings: prune_by_mood"
        in text
    )
    assert "prune_by_mood" not in {name for recipe in recipes(found.outcomes) for name, _ in recipe}
    assert sum(one.study == "strange" for one in found.outcomes) == 8  # what it tells beside is kept


def test_the_second_reading_is_of_the_store_and_tells_the_same(folder, monkeypatch):
    store = Store(folder / "store")
    first = read(study_files([folder]), store)
    monkeypatch.setattr(experience_file, "load_study", lambda path: pytest.fail("the study was read again"))
    assert read(study_files([folder]), store) == first


def test_what_the_store_holds_is_not_trusted_when_damaged_or_of_another_version(folder):
    store = Store(folder / "store")
    first = read(study_files([folder]), store)
    (kept,) = (folder / "store" / "experience").iterdir()
    for text in ("{", "[]", json.dumps({**json.loads(kept.read_text()), "schema": 99})):
        kept.write_text(text)
        assert read(study_files([folder]), store) == first


def test_a_store_that_cannot_be_written_makes_no_difference(folder):
    (folder / "file").write_text("")
    assert read(study_files([folder]), Store(folder / "file")).records > 0


def test_a_copy_of_a_study_is_read_once_and_one_card_is_one_model(folder):
    one = read(study_files([folder]))
    (folder / "copy").mkdir()
    (folder / "copy" / "study.json").write_bytes((folder / "good" / "study.json").read_bytes())
    assert read(study_files([folder])) == one
    other = known_steps(example_study(name="other"))
    other["records"] = [record for record in other["records"] if record["batch_size"] == 64]
    save_study(other, folder / "other" / "study.json")
    both = read(study_files([folder]))
    assert (both.studies, len({outcome.model for outcome in both.outcomes})) == (2, 1)


def test_where_studies_are_looked_for(folder, monkeypatch):
    assert study_files([folder / "good"]) == study_files([folder]) == [folder / "good" / "study.json"]
    assert study_files([folder / "good" / "study.json"]) == [folder / "good" / "study.json"]
    with pytest.raises(RequestError, match="--records .*none is no study and no folder of studies"):
        study_files([folder / "none"])
    (folder / "empty").mkdir()
    with pytest.raises(RequestError, match="--records .*empty holds no study"):
        study_files([folder / "empty"])
    monkeypatch.chdir(folder)
    save_study(example_study(), folder / "reports" / "a" / "study.json")
    save_study(example_study(), folder / "st" / "studies" / "b" / "study.json")
    assert [path.parent.name for path in study_files(None, Store(folder / "st"))] == ["a", "b"]
