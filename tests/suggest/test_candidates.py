from pathlib import Path

import pytest
from outcomes import HERE, experience, model, outcome, prune, recipe

from efflab.foundation.errors import RequestError
from efflab.records.store import LocalStore
from efflab.records.study import load_study
from efflab.suggest.advice import advise
from efflab.suggest.candidates import asked_model, counted, legal, training_of
from efflab.suggest.outcome import Recipe, current
from efflab.suggest.writing import compact

ROOT = Path(__file__).parents[2]
INT8 = recipe("export_onnx", "quantize_static")
TAUGHT = recipe(("distill", {"teacher": "digits-resnet-w16"}))
RECIPES = [prune(0.5), INT8, recipe("quantize_static"), recipe("cast"), TAUGHT]
KNOWN = experience([outcome(model("digits-resnet-w8"), prune(0.5), 1.0)])


def kept(form: str, task: str, backend: str) -> list[Recipe]:
    return legal(RECIPES, form, task, backend, KNOWN)[0]


def test_recipes_stand_on_what_they_take_and_run_where_they_can():
    assert kept("module", "digits_clutter", "onnxruntime") == [prune(0.5), INT8, TAUGHT]
    assert kept("module", "digits_clutter", "torch") == [
        prune(0.5),
        recipe("cast"),
        TAUGHT,
    ]  # graphs do not run on torch
    assert kept("onnx", "digits_clutter", "openvino[precision=bf16]") == [recipe("quantize_static")]


def test_a_teacher_of_another_task_teaches_nothing():
    found, reasons = legal(RECIPES, "module", "cifar10", "onnxruntime", KNOWN)
    assert found == [prune(0.5), INT8]
    assert reasons == {
        "its steps cannot stand on this baseline in their order": [recipe("quantize_static")],
        "it cannot run on onnxruntime": [recipe("cast")],
        "its teacher is of another task": [TAUGHT],
    }
    unknown = recipe(("distill", {"teacher": "nobody"}))
    assert legal([unknown], "module", "cifar10", "torch", KNOWN)[0] == []


def test_what_trains_faster_than_the_baseline_was_trained_is_left_out():
    training = training_of("digits-vit-w32-d2")
    assert training.learning_rate == 0.002
    slow, equal, fast = (recipe(("finetune", {"learning_rate": rate})) for rate in (0.0005, 0.002, 0.03))
    asked = ([slow, equal, fast, prune(0.5)], "module", "digits_clutter", "onnxruntime", KNOWN)
    found, reasons = legal(*asked, training)
    assert found == [slow, equal, prune(0.5)]
    assert reasons == {"its learning rate is above the 0.002 of the baseline, and would undo its training": [fast]}
    assert legal(*asked, training_of("digits-resnet-w8"))[0] == legal(*asked)[0] == [slow, equal, fast, prune(0.5)]
    assert training_of("of no card") is None


NETS = recipe(("train_supernet", {"widths": [0.25, 0.5], "blocks": [2]}), ("cut_subnet", {"width": 0.5, "blocks": 2}))
EXITS = recipe(("add_exits", {}), ("choose_exits", {}))


@pytest.mark.parametrize("made", [NETS, EXITS, recipe(("merge_tokens", {}))])
@pytest.mark.parametrize("name", ["digits-resnet-w8", "digits-vit-w32-d2"])
@pytest.mark.parametrize("form", ["module", "onnx"])
def test_recipes_that_change_the_architecture_stand_or_are_left_out_on_any_baseline(made, name, form):
    whole = tuple(current(step) for step in made)
    asked = (form, "digits_clutter", "onnxruntime", KNOWN, training_of(name))
    found, reasons = legal([whole], *asked)
    left = [one for some in reasons.values() for one in some]
    assert found + left == [whole]
    assert compact(whole).startswith(made[0][0])
    assert form == "module" or not found
    known = experience([outcome(model("digits-resnet-w8"), one, 1.2) for one in (whole, prune(0.5), INT8)])
    advice = advise(known, model("digits-resnet-w4", 2e6), HERE, "time", [whole, prune(0.5)])
    assert {one.recipe for one in advice.suggestions} == {whole, prune(0.5)}


def test_a_baseline_of_the_records_needs_no_counting():
    assert asked_model("digits-resnet-w8", KNOWN) == (model("digits-resnet-w8"), "module")
    assert counted(model("digits-resnet-w8"), "digits-resnet-w8") == (model("digits-resnet-w8"), ())
    foreign = experience([outcome(model("theirs-net-w8"), recipe("quantize_static"), 1.0)])
    assert asked_model("theirs-net-w8", foreign)[1] == "onnx"  # there is no card: its recipes begin with a graph


def test_a_baseline_without_records_is_counted_once_as_a_study_counts_it(tmp_path, monkeypatch):
    found, form = asked_model("digits-resnet-w4", KNOWN)
    told = (found.kind, found.family, found.task, found.metric, form)
    assert told == ("resnet", "digits-resnet", "digits_clutter", "accuracy", "module")
    whole, notes = counted(found, "digits-resnet-w4", LocalStore(tmp_path))
    records = load_study(ROOT / "reports" / "digits" / "study.json")["records"]
    work = next(one["work"] for one in records if one["variant"] == "digits-resnet-w4")
    assert (whole.macs, whole.params) == (work["macs"], work["params"])
    assert notes == ("no study holds digits-resnet-w4: its MACs are counted, its error is the card's",)
    monkeypatch.setattr("efflab.training.cost.macs_per_example", lambda *_: pytest.fail("counted again"))
    assert counted(found, "digits-resnet-w4", LocalStore(tmp_path))[0] == whole


def test_an_unknown_baseline_is_told_with_the_nearest():
    with pytest.raises(RequestError, match="unknown baseline 'digits-resnet-w9'; did you mean 'digits-resnet-w"):
        asked_model("digits-resnet-w9", KNOWN)
    with pytest.raises(RequestError, match="there is no card at"):
        asked_model(str(Path("nowhere") / "net.yaml"), KNOWN)
