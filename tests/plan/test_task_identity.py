"""A task is its name and its settings: two settings are never mixed, and a metric that is no mean keeps its intervals."""

import json

import numpy as np
import pytest
from studies import BASELINE, record, study_of
from worlds import QUICK, make_card, make_recipe

from efflab.cards.baseline import load_baseline
from efflab.comparison.compare import rows
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.plan.plan import make_plan
from efflab.plan.stage_graph import StageGraph
from efflab.recipe.recipe import load_recipe
from efflab.records.samples import pack_scores, unpack_scores
from efflab.records.study import load_study, save_study
from efflab.reporting.footer import footer
from efflab.run import run_file

F_SCORE = '''
from typing import ClassVar
import numpy as np
from efflab.tasks.digits_clutter import DigitsClutter

class FScore(DigitsClutter):
    """Digits judged by the F score of one of them, which is no mean over examples."""
    metric: ClassVar[str] = "F score"
    digit: int

    def scores(self, outputs, targets):
        found, wanted = np.asarray(outputs).argmax(axis=1) == self.digit, np.asarray(targets) == self.digit
        return np.stack([found & wanted, found, wanted], axis=1).astype(np.float32)

    def quality(self, scores):
        both, found, wanted = scores.sum(axis=0)
        return float(2 * both / (found + wanted)) if found + wanted else 0.0
'''


@pytest.fixture
def f_score(in_folder, monkeypatch):
    folder = in_folder / "plugins" / "tasks"
    folder.mkdir(parents=True)
    (folder / "f_score.py").write_text(F_SCORE)
    monkeypatch.setenv("EFFLAB_PLUGINS", str(folder.parent))
    registry.sources.cache_clear()
    registry.load.cache_clear()
    return folder / "f_score.py"


def with_task(card, text):
    lines = [line if not line.startswith("task:") else f"task: {text}" for line in card.read_text().splitlines()]
    card.write_text("\n".join(lines) + "\n")
    return card


def test_two_settings_of_one_task_have_two_digests(in_folder):
    small, large = make_card(in_folder, "small"), make_card(in_folder, "large")
    with_task(large, "{digits_clutter: {train: 600, validation: 64, test: 200}}")
    spelled = with_task(make_card(in_folder, "spelled"), "{digits_clutter: {test: 200, validation: 64, train: 512}}")
    graph = StageGraph(in_folder / "r.yaml")
    one, other, same = (graph.task_of(load_baseline(path)) for path in (small, large, spelled))
    assert one.digest == load_baseline(small).task.digest()
    assert other.digest == load_baseline(large).task.digest()
    assert one.digest != other.digest
    assert same.digest == one.digest


def test_a_stage_is_not_done_on_other_data_than_those_of_the_plan(in_folder):
    ref = StageGraph(in_folder / "r.yaml").task_of(load_baseline(make_card(in_folder)))
    ref.check()
    with pytest.raises(RequestError, match="the data of the task 'digits_clutter' here are not those that the plan"):
        ref.model_copy(update={"digest": "other"}).check()


@pytest.mark.parametrize(
    ("family", "named", "key", "way_out"),
    [
        (None, "[tiny, other]", "r.yaml:2: baseline", "make a recipe for each"),
        ("net", "tiny", "r.yaml:2: baseline", "other is measured too, since both belong to the family 'net'"),
    ],
)
def test_a_recipe_with_two_settings_of_one_task_is_refused(in_folder, family, named, key, way_out):
    make_card(in_folder, family=family)
    card = make_card(in_folder, "other", family=family)
    recipe = make_recipe(in_folder, "c: [{cast: {}}]")
    recipe.write_text(recipe.read_text().replace("baseline: tiny", f"baseline: {named}"))
    assert load_recipe(recipe)
    with_task(card, "{digits_clutter: {train: 600, validation: 64, test: 200}}")
    with pytest.raises(RequestError) as caught:
        load_recipe(recipe)
    (problem,) = caught.value.problems
    assert problem.where.endswith(key)
    assert (
        "tiny and other are cards of the task 'digits_clutter' with different settings (train 512 and 600)"
        in problem.what
    )
    assert way_out in problem.what


def test_two_cards_of_one_name_are_refused(in_folder):
    make_card(in_folder)
    (in_folder / "more" / "baselines").mkdir(parents=True)
    make_card(in_folder / "more")
    recipe = make_recipe(in_folder, "c: [{cast: {}}]")
    recipe.write_text(recipe.read_text().replace("baseline: tiny", "baseline: [tiny, more/baselines/tiny.yaml]"))
    with pytest.raises(RequestError, match=r"r.yaml:2: baseline: two cards are named 'tiny': .*; rename one"):
        load_recipe(recipe)


def test_defaults_that_a_card_spells_out_are_no_other_settings(in_folder):
    with_task(make_card(in_folder), "{digits_clutter: {train: 512, validation: 64, test: 200, data_seed: 0}}")
    make_card(in_folder, "other")
    recipe = make_recipe(in_folder, "c: [{cast: {}}]")
    recipe.write_text(recipe.read_text().replace("baseline: tiny", "baseline: [tiny, other]"))
    assert make_plan(load_recipe(recipe), "m", 1).rows


def test_the_settings_of_a_task_travel_with_the_study_to_its_intervals(f_score, in_folder):
    with_task(make_card(in_folder), "{f_score: {train: 512, validation: 64, test: 200, digit: 3}}")
    recipe = make_recipe(in_folder, "c: [{cast: {}}]", measure=QUICK.replace("[0, 1]", "[0]"))
    study = run_file(recipe, workers=1)
    assert {one["status"] for one in study["records"]} == {"ok"}
    assert study["records"][0]["task_settings"] == {"train": 512, "validation": 64, "test": 200, "digit": 3}
    stored = load_study(in_folder / ".efflab/studies/r/study.json")
    found = rows(stored)
    assert all(row["metric"] == "F score" and row["error_low"] is not None and not row["reason"] for row in found)
    assert all(row["quality_verdict"] for row in found if row["role"] != "baseline")


def counted(settings, value=None):
    """Return a study of two models with the statistics of an F score, as a plug-in task gives them."""
    made = []
    for seed, name in enumerate((BASELINE, "better")):
        wanted, hit = np.random.default_rng(seed).random((2, 400)) < [[0.3], [0.7 + 0.2 * seed]]
        scores = np.stack([wanted & hit, hit, wanted], axis=1).astype(np.float32)
        role = "baseline" if name == BASELINE else "variant"
        one = record(name, 1e6, 0.2, role=role, latency_ms=1.0, task="f_score")
        both, found, all_ = scores.sum(axis=0)
        own = float(2 * both / (found + all_)) if value is None else value
        one["quality"] = {"metric": "F score", "value": own, "scores": pack_scores(scores)}
        if settings is not None:
            one["task_settings"] = settings
        made.append(one)
    return study_of(made)


def test_nothing_is_lost_where_the_metric_can_be_resampled(f_score):
    found = rows(counted({"digit": 3}))
    assert all(row["error_low"] is not None and not row["reason"] for row in found)
    assert not any("no interval of the quality" in line for line in footer(found))


RETURN = "return float(2"
FAILS, NAN = f"if len(scores) < 1e9: raise KeyError('few')\n        {RETURN}", f"return np.nan if 1 else {RETURN[7:]}"
WHOLE = [int(unpack_scores(one["quality"]["scores"])[:, 0].sum()) for one in counted({})["records"]]
SOMETIMES = f"return np.nan if int(both) not in {WHOLE} else {RETURN[7:]}"


@pytest.mark.parametrize(
    ("settings", "more", "plugin", "why"),
    [
        (None, {}, F_SCORE, "the study holds none, as older versions of efflab write it"),
        ({"digit": "three"}, {}, F_SCORE, "does not take its settings in this study any more"),
        ({"digit": 3}, {"value": 0.123}, F_SCORE, "does not give the recorded value for the recorded scores"),
        ({"digit": 3}, {}, F_SCORE.replace(RETURN, FAILS), "quality() fails on resampled examples (KeyError: 'few')"),
        ({"digit": 3}, {}, F_SCORE.replace(RETURN, NAN), "does not give the recorded value"),
        ({"digit": 3}, {}, F_SCORE.replace(RETURN, SOMETIMES), "gives no number for some resamples of the examples"),
        ({"digit": 3}, {}, None, "unknown task 'f_score'"),
    ],
)
def test_intervals_that_cannot_be_worked_out_are_told(f_score, settings, more, plugin, why):
    f_score.unlink()
    if plugin:
        f_score.write_text(plugin)
    found = rows(counted(settings, **more))
    assert all(row["error_low"] is None and row["quality_verdict"] is None for row in found)
    (line,) = [line for line in footer(found) if "no interval of the quality and no verdict on it" in line]
    assert why in line
    assert all(row["variant"] in line for row in found)


def test_one_task_under_two_settings_is_resampled_twice(f_score):
    """Scores that are alike, byte by byte, are not alike in meaning."""
    text = F_SCORE.replace("return float(2 * both", "return float(self.digit * both")
    f_score.write_text(text)
    two, three = counted({"digit": 2}), counted({"digit": 3})
    for one in three["records"]:
        one["quality"]["value"] *= 1.5
    first, second = rows([two, three])[0], rows([two, three])[2]
    assert first["error_low"] is not None
    assert 1 - second["error_high"] == pytest.approx(1.5 * (1 - first["error_high"]))


def test_settings_that_are_no_mapping_are_a_damaged_study(tmp_path):
    study = counted({"digit": 3})
    study["records"][1]["task_settings"] = [3]
    save_study(study, tmp_path / "study.json")
    with pytest.raises(RequestError, match="task_settings must be a mapping"):
        load_study(tmp_path / "study.json")


def test_old_studies_read_as_before(tmp_path):
    save_study(counted(None), tmp_path / "study.json")
    assert "task_settings" not in json.dumps(load_study(tmp_path / "study.json"))
