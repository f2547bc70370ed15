"""Whole searches on tiny data: killed and gone on with, unreachable, used up, and made again from their recipe."""

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml
from worlds import efflab, make_card

import efflab as package
from efflab.foundation.errors import RequestError
from efflab.plan.plan import make_plan
from efflab.recipe.recipe import load_recipe
from efflab.records.store import LocalStore
from efflab.records.study import load_study
from efflab.run import plan_file
from efflab.search import run as run_search
from efflab.search.loop import known_trials, search_id

pytestmark = pytest.mark.xdist_group("search")  # one process, so that the world is made once

pytest.importorskip("optuna")
MEASURE = (
    "seeds: [0], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false, "
    "threads: 1"
)
STEPS = """
  steps:
    - choose:
        - []
        - - prune_channels: {round_to: 1, choose: {ratio: [0.3, 0.5, 0.7]}}
          - finetune: {batch_size: 64, choose: {epochs: [1, 2, 3]}}
    - choose: [[], [cast: {}]]
"""
SEARCH = "minimize: [error, bit_operations]\n  trials: 6"


def make_search(folder, search=SEARCH, steps=STEPS, extra="", start="[tiny, wide]", name="s"):
    for card, width in (("tiny", 4), ("wide", 6)):
        if not (folder / "baselines" / f"{card}.yaml").exists():
            make_card(folder, card, width)
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: {name}\nbaseline: tiny\nsearch:\n  start: {start}\n{steps.strip(chr(10))}\n  {search}\n"
        f"measure: {{backends: [fake], {MEASURE}}}\n{extra}"
    )
    return path


def journal(folder, name="s"):
    (path,) = (folder / ".efflab" / "searches").glob(f"{name}-*.jsonl")
    return [trial for line in path.read_text().splitlines()[1:] for trial in json.loads(line)["trials"]]


def told(trials):
    """What must not depend on interruptions: all but seconds."""
    return [
        (
            one["point"],
            one["state"],
            one["why"],
            one["values"],
            one.get("rung"),
            one["stages"],
            one["cost"]["training_macs"],
        )
        for one in trials
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a search that nothing interrupted, and its study."""
    folder = tmp_path_factory.mktemp("whole")
    make_search(folder)
    done = efflab("run", "s.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "best so far: trial" in done.stdout
    return folder, load_study(folder / ".efflab/studies/s/study.json")


def test_killed_twice_it_ends_as_if_it_had_not_been(in_folder, whole):
    make_search(in_folder)
    command = [sys.executable, "-m", "efflab.cli.main", "run", "s.yaml"]
    for batches in (1, 2):
        process = subprocess.Popen(command, cwd=in_folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            found = [path.read_text().count('{"trials"') for path in in_folder.glob(".efflab/searches/*.jsonl")]
            if found and found[0] >= batches:
                break
            time.sleep(0.05)
        time.sleep(0.3)  # somewhere in the next batch
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = efflab("run", "s.yaml", cwd=in_folder)
    assert done.returncode == 0, done.stderr
    assert told(journal(in_folder)) == told(journal(whole[0]))
    first, again = ((folder / ".efflab/studies/s/best.yaml").read_text() for folder in (whole[0], in_folder))
    assert first == again
    charged = [stage for trial in journal(in_folder) for stage in trial["stages"]]
    assert len(charged) == len(set(charged))  # each stage is on one trial's bill


def test_the_ledger_counts_every_trial_once_and_the_found_rows_bear_it(whole):
    folder, study = whole
    trials, store = study["search"]["trials"], LocalStore.open(folder / ".efflab")
    assert len(trials) == 6
    assert {trial["state"] for trial in trials} <= {"done", "stopped"}
    spent = 0.0
    for trial in trials:
        results = [store.result(stage) for stage in trial["stages"]]
        own = sum(result["cost"]["training_macs"] for result in results)
        own += sum(cost["training_macs"] for cost in trial.get("paused", {}).values())
        assert trial["cost"]["training_macs"] == pytest.approx(own)
        spent += own
    assert study["search"]["cost"]["training_macs"] == pytest.approx(spent)
    found = [record for record in study["records"] if record["variant"] in study["search"]["found"]]
    assert found
    for record in found:  # the cards here were not trained, so all there is is the trials
        assert record["recovery"]["training_macs"] == pytest.approx(spent)
        trial = trials[study["search"]["found"][record["variant"]]]
        assert record["work"]["bit_operations"] == trial["values"]["bit_operations"]
        assert record["of"] == "tiny"


def test_a_pause_for_a_look_is_kept_with_its_stage(whole):
    folder, study = whole
    trials, store = study["search"]["trials"], LocalStore.open(folder / ".efflab")
    trained = [trial for trial in trials if "epochs=2" in trial["recipe"] or "epochs=3" in trial["recipe"]]
    assert [trial["number"] for trial in trained] == [trial["number"] for trial in trials if "rung" in trial]
    for trial in trained:
        results = [store.result(stage) for stage in trial["stages"]]
        looks = [1 - result["rung"]["quality"] for result in results if "rung" in result]
        assert trial["state"] == "stopped" or trial["rung"] in looks or not looks


def test_the_recipe_of_the_best_makes_the_same_model(whole, monkeypatch):
    folder, study = whole
    monkeypatch.chdir(folder)
    best = next(record for record in study["records"] if record["variant"] == "best")
    plan = make_plan(load_recipe(folder / ".efflab/studies/s/best.yaml"), "m", 1)
    assert [row.made[-1] for row in plan.rows if row.variant == "best"] == [best["stages"]["artefact"]]


def test_a_search_goes_on_with_more_trials_and_plan_tells_how_far_it_is(in_folder):
    path = make_search(in_folder, "minimize: bit_operations\n  trials: 2")
    before = plan_file(path).recipe.notes
    assert "search: 2 trials of a space of 40 points; about" in before[0]
    assert "training MACs ahead of `best` (estimate, none stopped early)" in before[0]
    package.run_recipe(path)
    first = journal(in_folder)
    assert plan_file(path).recipe.notes == ()
    assert any(row.variant == "best" for row in plan_file(path).rows)
    make_search(in_folder, "minimize: bit_operations\n  trials: 3")
    assert "3 trials of a space of 40 points, 2 done" in plan_file(path).recipe.notes[0]
    package.run_recipe(path)
    assert journal(in_folder)[:2] == first
    assert len(journal(in_folder)) == 3


def test_another_order_of_cards_is_another_search(in_folder):
    one, other = (load_recipe(make_search(in_folder, start=start)).search for start in ("[tiny, wide]", "[wide, tiny]"))
    assert search_id(one, ("m", 1)) != search_id(other, ("m", 1))  # points count the cards


def test_a_space_with_one_point_is_made_and_measured(in_folder):
    steps = "  steps: [prune_channels: {ratio: 0.5, round_to: 1}]"
    path = make_search(in_folder, "minimize: macs", steps, start="[tiny]")
    assert any("the space has one point" in note for note in plan_file(path).recipe.notes)
    study = package.run_recipe(path)
    assert len(study["search"]["trials"]) == 1
    assert {record["variant"] for record in study["records"]} == {"tiny", "best"}


def test_bounds_out_of_reach_are_told_before_a_trial_and_name_the_nearest_point(in_folder):
    path = make_search(in_folder, "minimize: error\n  where: [bit_operations <= 1000]")
    with pytest.raises(
        RequestError, match="no corner of the space reaches bit_operations <= 1000: the nearest of"
    ) as told:
        package.run_recipe(path)
    assert "prune_channels(round_to=1, ratio=0.7)" in str(told.value)
    assert not list(in_folder.glob(".efflab/searches/*"))
    path = make_search(in_folder, "minimize: macs\n  where: [error <= 0.01]\n  trials: 2", name="e")
    with pytest.raises(RequestError, match="none of 2 trials keeps error <= 0.01; the nearest is trial") as told:
        package.run_recipe(path)
    assert "e.yaml:3: search" in str(told.value)
    assert "it is at its end; none of 2 trials keeps error <= 0.01" in plan_file(path).recipe.notes[0]


def test_a_budget_too_small_for_one_trial_is_told(in_folder):
    path = make_search(in_folder, "minimize: macs\n  budget_s: 0.5")
    with pytest.raises(RequestError, match=r"budget_s is 0.5, but the shortest trial takes about \d+ s"):
        plan_file(path)


def test_times_of_another_machine_are_never_taken_for_this_ones(in_folder):
    path = make_search(in_folder, "minimize: latency_ms_p50\n  where: [error <= 0.99]\n  trials: 2")
    package.run_recipe(path)
    assert all("latency_ms_p50" in trial["values"] for trial in journal(in_folder))
    search, store = load_recipe(path).search, LocalStore.open()
    here, there = (run_search.journal_file(store, "s", search, (machine, 1)) for machine in ("here", "there"))
    assert here != there
    assert known_trials(search, there, ("there", 1)) == ([], "")
    untimed = load_recipe(make_search(in_folder, "minimize: macs", name="u")).search
    assert run_search.journal_file(store, "u", untimed, ("here", 1)) == run_search.journal_file(
        store, "u", untimed, ("there", 1)
    )


def test_settings_that_do_not_go_together_are_a_failed_trial(in_folder):
    steps = """
  steps:
    - export_onnx: {}
    - quantize_static: {choose: {engine: [nncf, onnxruntime], calibrator: [minmax, entropy]}, calibration_examples: 64}
"""
    path = make_search(
        in_folder, "minimize: bit_operations\n  backend: onnxruntime\n  trials: 4", steps, start="[tiny]"
    )
    path.write_text(path.read_text().replace("[fake]", "[onnxruntime]"))
    with pytest.raises(RequestError, match="engine nncf has no calibrator entropy"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("minimize: latency", "did you mean 'latency_ms_p50'?"),
        ("minimize: error", "minimize error without a bound finds the largest model"),
        ("minimize: macs\n  where: [error <= 0.1, quality <= 0.8]", "contradict each other"),
        ("minimize: macs\n  where: [error < 0.1]", "is no bound"),
        ("minimize: macs\n  trials: 0", "must be at least 1"),
        ("minimize: [macs, macs]", "a metric is given twice"),
        ("minimize: macs\n  where:\n    - error <= 0.1\n    - eror <= 0.1", "s.yaml:14: search.where[1]"),
        ("minimize: macs\n  trails: 5", "did you mean 'trials'?"),
        ("minimize: macs\n  backend: opnvino", "did you mean 'openvino'?"),
    ],
)
def test_bad_searches_name_the_place_and_the_mend(in_folder, search, said):
    with pytest.raises(RequestError) as caught:
        load_recipe(make_search(in_folder, search))
    assert said in str(caught.value)
    assert "s.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("  steps: [prune_chanels: {}]", "did you mean 'prune_channels'?"),
        ("  steps: [prune_channels: {choose: {ratio: [0.3, 7]}}]", "prune_channels: must be less than 1 (found 7)"),
        ("  steps: [quantize_static: {}]", "quantize_static takes an ONNX file"),
        (
            "  steps:\n    - cast: {}\n    - prune_channels: {choose: {ratio: 1}}",
            "s.yaml:7: search.steps[1].prune_channels.choose.ratio",
        ),
        ("  steps: [" + ", ".join(["choose: [[], [cast: {}]]"] * 40) + "]", "1,099,511,627,776 ways through `choose`"),
        ("  steps: [export_onnx: {}]", "fake runs torch modules; this variant is an ONNX file"),
        ("  steps: [choose: [[], [distill: {teacher: nobody}]]]", "unknown baseline 'nobody'"),
    ],
)
def test_bad_spaces_name_the_place_and_the_mend(in_folder, steps, said):
    with pytest.raises(RequestError) as caught:
        load_recipe(make_search(in_folder, steps=steps))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("[tiny, nobody]", "unknown baseline 'nobody'"),
        ("[tiny, tiny]", "tiny is given twice"),
        ("[]", "must have at least 1 entry"),
        ("family", "tiny belongs to no family"),
        ("[digits-resnet-w3]", "of another task"),
    ],
)
def test_bad_starts_name_the_place_and_the_mend(in_folder, start, said):
    with pytest.raises(RequestError) as caught:
        load_recipe(make_search(in_folder, start=start))
    assert said in str(caught.value)


def test_a_variant_may_start_from_another_card(in_folder):
    make_card(in_folder)
    make_card(in_folder, "wide", 6)
    text = "name: v\nbaseline: tiny\nvariants:\n"
    text += "  w: {start: wide, steps: [prune_channels: {ratio: 0.5}]}\n  c: {from: w, steps: [cast: {}]}\n"
    (in_folder / "v.yaml").write_text(text + f"measure: {{backends: [fake], {MEASURE}}}\n")
    plan = plan_file(in_folder / "v.yaml")
    rows = {row.variant: row for row in plan.rows}
    assert (rows["w"].baseline, rows["w"].of) == ("wide", "tiny")
    assert plan.stages[rows["c"].made[0]].title.startswith("wide")
    (in_folder / "v.yaml").write_text(text.replace("{from: w,", "{from: w, start: wide,"))
    with pytest.raises(RequestError, match="give from"):
        load_recipe(in_folder / "v.yaml")
    content = yaml.safe_load(text)
    content["baseline"] = ["tiny", "wide"]
    (in_folder / "v.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(RequestError, match="takes a recipe with one baseline"):
        load_recipe(in_folder / "v.yaml")
