import copy
import json
import math
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studies import example_study, record, study_of

from efflab.foundation.errors import RequestError
from efflab.records.store import LocalStore
from efflab.records.study import save_study
from efflab.suggest import past_studies
from efflab.suggest.past_studies import read, recipes, study_files

RATIO = {"prune_channels": {"ratio": 0.5}}


def known_steps(study: dict) -> dict:
    """The example study with settings that every technique in it accepts."""
    for one in study["records"]:
        one["steps"] = [RATIO if "prune_channels" in step else step for step in one["steps"]]
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
    for one in strange["records"]:
        one["steps"] = [{"prune_by_mood": {}} if "cast" in step else step for step in one["steps"]]
    save_study(strange, folder / "strange" / "study.json")

    found = read(study_files([folder]))
    assert (found.studies, found.records) == (2, 2 * len(strange["records"]))
    assert len(found.notes) == 4
    text = "\n".join(found.notes)
    assert f"{newer} is left out: written by a newer efflab (schema 99" in text
    assert f"{damaged} is left out: a damaged study: records[3]" in text
    assert f"{torn} is left out: not a study file" in text
    assert (
        "2 outcomes left out, with steps that this version does not take: prune_by_mood (unknown technique 'prune_by_mood')"
        in text
    )
    assert "prune_by_mood" not in {name for recipe in recipes(found.outcomes) for name, _ in recipe}
    assert sum(one.study == "strange" for one in found.outcomes) == 8  # what it tells beside is kept


def test_the_second_reading_is_of_the_store_and_tells_the_same(folder, monkeypatch):
    store = LocalStore(folder / "store")
    first = read(study_files([folder]), store)
    monkeypatch.setattr(past_studies, "load_study", lambda path: pytest.fail("the study was read again"))
    assert read(study_files([folder]), store) == first


def test_what_the_store_holds_is_not_trusted_when_damaged_or_of_another_version(folder):
    store = LocalStore(folder / "store")
    first = read(study_files([folder]), store)
    (kept,) = (folder / "store" / "experience").iterdir()
    fine = json.loads(kept.read_text())
    damaged = copy.deepcopy(fine)
    damaged["content"]["outcomes"][0]["gains"] = [1]
    for text in ("{", "[]", "1", '{"sha256": 1}', json.dumps(damaged), json.dumps(fine["content"])):
        kept.write_text(text)
        assert read(study_files([folder]), store) == first


def test_what_an_older_version_worked_out_is_worked_out_anew(folder):
    store = LocalStore(folder / "store")
    first = read(study_files([folder]), store)
    (kept,) = (folder / "store" / "experience").iterdir()
    content = past_studies.recalled(kept)
    past_studies.keep(kept, {**content, "schema": 1, "records": 0})
    assert read(study_files([folder]), store) == first


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.integers(-2, 2)
    | st.floats()
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def parts(value: Any, found: tuple = ()) -> Iterator[tuple]:
    """Where every part of JSON data lies, as keys from the outside in."""
    yield found
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from parts(inner, (*found, key))


def small_study() -> dict:
    """A baseline, a smaller dense net and two variants, timed."""
    steps, role = ("export_onnx", "quantize_static"), "variant"
    return study_of([
        record("net-w24", 3.6e6, 0.2, role="baseline", latency_ms=2.0),
        record("net-w8", 4e5, 0.3, role="dense", latency_ms=0.5),
        record("half", 1.8e6, 0.25, steps=("prune_channels",), role=role, latency_ms=1.0),
        record("int8", 3.6e6, 0.2, steps=steps, role=role, latency_ms=1.0, bits=8),
    ])  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_part_of_a_study_can_be_such_that_reading_fails(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "odd"
    save_study(small_study(), folder / "study.json")
    beside = data.draw(st.booleans())  # samples in their own file, or in the records as older studies have them
    study = json.loads((folder / "study.json").read_text() if beside else json.dumps(small_study()))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from([one for one in parts(study) if one]))
        inside = study
        for key in place[:-1]:
            inside = inside[key]
        if data.draw(st.booleans()):
            inside[place[-1]] = data.draw(JSON)
        else:
            del inside[place[-1]]
    (folder / "study.json").write_text(json.dumps(study))
    store = LocalStore(folder / "store")
    found = read(study_files([folder]), store)
    assert (found.studies == 1) != any("study.json is left out: " in note for note in found.notes)
    assert read(study_files([folder]), store) == found
    for one in found.outcomes:
        hash((one.model, one.place, one.recipe))  # what is kept can be counted and compared with others
        numbers = (
            one.model.macs,
            one.model.params,
            one.model.error,
            *(part for it in one.gains.values() for part in it),
        )
        assert all(math.isfinite(number) for number in numbers)


def test_a_study_whose_machines_are_names_is_left_out(folder):
    odd = example_study()
    odd["machines"] = {"m1": "Test CPU"}
    save_study(odd, folder / "odd" / "study.json")
    found = read(study_files([folder]))
    assert found.studies == 1
    assert (
        f"{folder / 'odd' / 'study.json'} is left out: a damaged study: machines.m1 must be a mapping" in found.notes[0]
    )


@pytest.mark.parametrize(("name", "value"), [("macs", 0), ("macs", -5), ("params", -1), ("bit_operations", math.nan)])
def test_work_that_is_not_above_zero_leaves_a_study_out(folder, name, value):
    odd = example_study()
    odd["records"][4]["work"][name] = value
    save_study(odd, folder / "odd" / "study.json")
    (note,) = read(study_files([folder])).notes
    assert note.endswith(
        f"odd/study.json is left out: records[4]: work.{name} is {value}, where only a number above 0 can be"
    )


def test_a_note_names_the_setting_that_this_version_does_not_take(folder):
    for name, settings_of_then in [("new", {"ratio": 0.5, "mood": 1}), ("far", {"ratio": 7})]:
        study = example_study(name=name)
        for one in study["records"]:
            one["steps"] = [
                {"prune_channels": settings_of_then} if "prune_channels" in step else step for step in one["steps"]
            ]
        save_study(study, folder / name / "study.json")
    text = "\n".join(read(study_files([folder])).notes)
    assert "with steps that this version does not take: prune_channels (it has no setting mood)" in text
    assert "with steps that this version does not take: prune_channels(ratio=7)" in text


def test_a_store_that_cannot_be_written_makes_no_difference(folder):
    (folder / "file").write_text("")
    assert read(study_files([folder]), LocalStore(folder / "file")).records > 0


def test_a_copy_of_a_study_is_read_once_and_one_card_is_one_model(folder):
    one = read(study_files([folder]))
    shutil.copytree(folder / "good", folder / "copy")
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
    assert [path.parent.name for path in study_files(None, LocalStore(folder / "st"))] == ["a", "b"]
