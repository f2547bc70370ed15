import json
import math

import pytest
from studies import BASELINE, FAMILY, example_study, failed, record, study_of

from efflab.comparison.compare import assess
from efflab.suggest.outcome import (
    GOALS,
    Target,
    current,
    distil,
    kind_of,
    packed,
    points_of,
    recipe_of,
    settings_of,
    unpacked,
)


def test_the_shifts_planted_in_a_study_come_out():
    models, outcomes = distil(example_study())
    assert {one.name for one in models} == set(FAMILY)
    found = {(one.recipe[0][0], one.place.backend, one.place.batch_size): one for one in outcomes}
    pruned = found["prune_channels", "torch", 64]
    assert math.exp(pruned.gains["macs"].log) == pytest.approx(1.6, rel=0.02)
    assert math.exp(pruned.gains["time"].log) == pytest.approx(1.2, rel=0.02)
    assert math.exp(pruned.gains["speedup"].log) == pytest.approx(1.5, rel=0.01)
    assert pruned.model.name == BASELINE
    assert (pruned.place, pruned.records, pruned.study) == (Target("torch", 64, "m1"), 3, "synthetic")
    assert "energy" not in pruned.gains  # it was not measured


def test_values_and_errors_are_those_of_the_rows():
    study = example_study()
    rows = {(row["variant"], row["backend"], row["batch_size"]): row for row in assess(study, ("latency",), 100).rows}
    row = rows["int8", "onnxruntime", 1]
    _, outcomes = distil(study)
    (int8,) = [
        one for one in outcomes if len(one.recipe) == 2 and "export_onnx" in one.recipe[0] and one.place.batch_size == 1
    ]
    assert int8.gains["time"].log == pytest.approx(math.log(row["shift_latency"]))
    assert math.exp(3.92 * int8.gains["time"].se) == pytest.approx(
        row["shift_latency_high"] / row["shift_latency_low"], rel=0.01
    )
    assert points_of(int8.error.log, 0.2 * 0) == 0
    before = row["error"] + row["quality_difference"] / 100
    assert points_of(int8.error.log, before) == pytest.approx(row["quality_difference"])


def test_controls_repeats_and_failed_rows_tell_of_no_recipe():
    outcomes = distil(example_study())[1]
    names = {step[0] for one in outcomes for step in one.recipe}
    assert names == {"prune_channels", "finetune", "export_onnx", "quantize_static", "cast"}
    assert len(outcomes) == 10  # prune50 and what each backend has of its own, at two batch sizes; no random channels
    lonely = study_of([record(BASELINE, 1e6, 0.1, role="baseline"), failed("prune90", "died")])
    assert distil(lonely)[1] == []


def test_a_model_without_any_error_has_a_logarithm_all_the_same():
    records = [record(BASELINE, 1e6, 0.1, role="baseline"), record("best", 1e6, 0.0, steps=("cast",), role="variant")]
    (one,) = distil(study_of(records))[1]
    assert one.error.log == pytest.approx(math.log(0.005))


def test_what_is_kept_as_json_comes_back():
    models, outcomes = distil(example_study())
    again = unpacked(json.loads(json.dumps(packed(models, outcomes))))
    assert again == (models, outcomes)


def test_a_step_has_all_settings_of_this_version():
    step = current(("quantize_static", json.dumps({"calibration_examples": 256})))
    assert settings_of(step)["calibration_examples"] == 256
    assert settings_of(step)["keep_float"] == 0  # a setting that earlier studies did not have
    assert current(step) == step
    assert current(("prune_everything", "{}")) is None
    assert current(("prune_channels", '{"ratio": 7}')) is None
    assert current(("prune_channels", '{"rate": 0.5}')) is None


def test_small_parts():
    assert [kind_of(one) for one in ("cifar10-resnet", "net", None)] == ["resnet", "net", ""]
    assert recipe_of([{"cast": None}]) == (("cast", "{}"),)
    assert recipe_of(["cast"]) == ()  # no step of a study of this schema
    assert points_of(math.log(2), 0.1) == pytest.approx(-10)
    assert set(GOALS) == {"time", "macs", "bits", "bytes", "energy", "memory", "speedup"}
