from pathlib import Path

import pytest
from outcomes import experience, model, outcome, prune, recipe

from efflab.errors import RequestError
from efflab.store import Store
from efflab.study import load_study
from efflab.suggesting.candidates import asked_model, counted, legal
from efflab.suggesting.outcome import Recipe

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
        "cannot stand on this baseline in their order": 1,
        "cannot run on onnxruntime": 1,
        "need the card of a teacher of another task": 1,
    }
    unknown = recipe(("distill", {"teacher": "nobody"}))
    assert legal([unknown], "module", "cifar10", "torch", KNOWN)[0] == []


def test_a_baseline_of_the_records_needs_no_counting():
    assert asked_model("digits-resnet-w8", KNOWN) == (model("digits-resnet-w8"), "module")
    assert counted(model("digits-resnet-w8"), "digits-resnet-w8") == (model("digits-resnet-w8"), ())
    foreign = experience([outcome(model("theirs-net-w8"), recipe("quantize_static"), 1.0)])
    assert asked_model("theirs-net-w8", foreign)[1] == "onnx"  # there is no card: its recipes begin with a graph


def test_a_baseline_without_records_is_counted_once_as_a_study_counts_it(tmp_path, monkeypatch):
    found, form = asked_model("digits-resnet-w4", KNOWN)
    told = (found.kind, found.family, found.task, found.metric, form)
    assert told == ("resnet", "digits-resnet", "digits_clutter", "accuracy", "module")
    whole, notes = counted(found, "digits-resnet-w4", Store(tmp_path))
    records = load_study(ROOT / "reports" / "digits" / "study.json")["records"]
    work = next(one["work"] for one in records if one["variant"] == "digits-resnet-w4")
    assert (whole.macs, whole.params) == (work["macs"], work["params"])
    assert notes == ("no study holds digits-resnet-w4: its MACs are counted, its error is the card's",)
    monkeypatch.setattr("efflab.hardware.macs_per_example", lambda *_: pytest.fail("counted again"))
    assert counted(found, "digits-resnet-w4", Store(tmp_path))[0] == whole


def test_an_unknown_baseline_is_told_with_the_nearest():
    with pytest.raises(RequestError, match="unknown baseline 'digits-resnet-w9'; did you mean 'digits-resnet-w"):
        asked_model("digits-resnet-w9", KNOWN)
    with pytest.raises(RequestError, match="there is no card at"):
        asked_model(str(Path("nowhere") / "net.yaml"), KNOWN)
