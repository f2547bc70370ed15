"""A batch that is larger than the validation split is filled by repeating examples, and that is said."""

import json

import numpy as np
import pytest
from worlds import make_card, make_recipe

from efflab.artefacts.artefact import write_structure
from efflab.cards.baseline import load_baseline
from efflab.comparison.compare import rows
from efflab.execution.scheduler import repeat_note
from efflab.execution.stages.time_in_turn import time_in_turn
from efflab.execution.watcher import Watcher
from efflab.plan.stage_graph import Stage
from efflab.plan.stage_specs import TaskRef, TimeInTurn
from efflab.profiling import latency
from efflab.records.store import stage_digest
from efflab.records.study import load_study, save_study
from efflab.reporting.footer import footer
from efflab.run import plan_file, run_file

MEASURE = (
    "seeds: [0], batch_sizes: [4, 100], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, "
    "controls: false, threads: 1"
)
NOTE = "a batch repeats the 64 examples of the validation split, which has no more"


def timed(in_folder, monkeypatch, batch, inputs=1):
    """Return the inputs on which a session would be timed, its number of batches, the result, and what was said."""
    seen = []

    def measure_group(jobs, budget, threads, report):
        with np.load(jobs[0].inputs) as file:
            seen.append((np.concatenate([file[name] for name in file.files]), jobs[0].batches))
        return {job.label: {"rounds_ms": [[1.0]]} for job in jobs}

    monkeypatch.setattr(latency, "measure_group", measure_group)
    task = load_baseline(make_card(in_folder)).task
    spec = TimeInTurn(
        backend="fake",
        settings={},
        batch_size=batch,
        budget={"min_runs": 11, "min_seconds": 0.1, "max_seconds": 0.2, "rounds": 5},
        machine="",
        threads=1,
        members={"a": "s"},
        task=TaskRef(name="digits_clutter", settings=task.model_dump()),
        inputs=inputs,
    )
    model = in_folder / "model"
    model.mkdir()
    write_structure(model, "module")
    result = time_in_turn(spec, [model], in_folder, lambda *_: None)
    note = repeat_note(Stage("one", "fake in turn", (), spec, 1.0), result)
    return *seen[0], result, note, task.split("validation").inputs[0]


@pytest.mark.parametrize(("batch", "inputs"), [(64, 1), (1, 1), (10, 4), (1, 64)])
def test_a_batch_that_the_split_can_fill_is_made_of_different_examples(in_folder, monkeypatch, batch, inputs):
    array, batches, result, note, split = timed(in_folder, monkeypatch, batch, inputs)
    assert np.array_equal(array, split[: batch * inputs])
    assert batches == inputs
    assert "examples" not in result.timings["a"]
    assert note == ""


@pytest.mark.parametrize("inputs", [1, 4])
def test_a_larger_batch_repeats_them(in_folder, monkeypatch, inputs):
    array, batches, result, note, split = timed(in_folder, monkeypatch, 150, inputs)
    assert len(array) == 150
    assert np.array_equal(array, np.concatenate([split, split, split[:22]]))
    assert batches == 1
    assert result.timings["a"]["examples"] == 64
    assert note == f"note: fake in turn: {NOTE}"


def test_the_record_and_the_table_say_so_and_what_was_cut_short_is_timed_again(in_folder):
    make_card(in_folder)
    recipe = make_recipe(in_folder, "c: [{cast: {}}]", measure=MEASURE)
    said = []
    study = run_file(recipe, workers=1, watcher=Watcher(say=said.append))
    assert {one["status"] for one in study["records"]} == {"ok"}
    assert {one["batch_size"]: one["latency"].get("examples") for one in study["records"]} == {4: None, 100: 64}
    assert [sentence for sentence in said if NOTE in sentence]
    (line,) = [line for line in footer(rows(load_study(in_folder / ".efflab/studies/r/study.json"))) if NOTE in line]
    assert "batch 100: tiny, c" in line
    files = {}
    for one, stage in plan_file(recipe).stages.items():
        if stage.kind == "latency":  # as an older version left it
            files[stage.spec.batch_size] = path = in_folder / ".efflab/stages" / one / "stage.json"
            kept = json.loads(path.read_text())
            del kept["result"]["examples"]
            path.write_text(json.dumps({**kept, "sha256": stage_digest(kept)}))
    before = {batch: path.read_text() for batch, path in files.items()}
    again = run_file(recipe, workers=1)
    assert {one["batch_size"]: one["latency"].get("examples") for one in again["records"]} == {4: None, 100: 64}
    assert files[4].read_text() == before[4]
    assert files[100].read_text() != before[100]
    last = files[100].read_text()
    run_file(recipe, workers=1)
    assert files[100].read_text() == last


def test_a_count_that_is_none_is_a_damaged_study(in_folder):
    make_card(in_folder)
    study = run_file(make_recipe(in_folder, "c: [{cast: {}}]", measure=MEASURE), workers=1)
    study["records"][0]["latency"]["examples"] = 0
    save_study(study, in_folder / "study.json")
    with pytest.raises(Exception, match=r"latency\.examples must be a count"):
        load_study(in_folder / "study.json")


def test_two_tasks_in_one_recipe_are_timed_each_on_its_own_examples(in_folder, monkeypatch):
    from efflab.foundation import registry

    (in_folder / "plugins" / "tasks").mkdir(parents=True)
    (in_folder / "plugins" / "tasks" / "half.py").write_text(
        "from efflab.tasks.digits_clutter import DigitsClutter\nclass Half(DigitsClutter):\n    '''Other digits.'''\n"
    )
    monkeypatch.setenv("EFFLAB_PLUGINS", "plugins")
    registry.sources.cache_clear()
    make_card(in_folder)
    other = make_card(in_folder, "other")
    other.write_text(other.read_text().replace("{digits_clutter:", "{half:"))
    recipe = make_recipe(in_folder, "c: [{cast: {}}]", measure=MEASURE)
    recipe.write_text(recipe.read_text().replace("baseline: tiny", "baseline: [tiny, other]"))
    plan = plan_file(recipe)
    groups = [sorted(stage.spec.members) for stage in plan.stages.values() if stage.kind == "latency"]
    assert groups == [["c@tiny", "tiny"], ["c@other", "other"]] * 2
