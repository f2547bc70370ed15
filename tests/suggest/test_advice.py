import math

import numpy as np
import pytest
from outcomes import HERE, experience, model, outcome, prune, recipe

from efflab.records.store import LocalStore
from efflab.suggest.advice import MOST_DATA, advise, data_of, gaps, has_basis, nearest_data, order, unmeasured
from efflab.suggest.gaussian_process import Belief
from efflab.suggest.outcome import Target

INT8, BF16 = recipe("export_onnx", "quantize_static"), recipe("cast")
GAINS = {INT8: 2.0, BF16: 1.3, prune(0.3): 1.1, prune(0.5): 0.7, prune(0.8): 0.3}
ERRORS = {INT8: 1.0, BF16: 1.0, prune(0.3): 1.3, prune(0.5): 1.8, prune(0.8): 4.0}


def told(*names: str) -> list:
    """What the recipes gave on models of these names, a little more on each next one."""
    return [
        outcome(model(name, 1e6 * 2**at), what, gain * 1.02**at, ERRORS[what])
        for at, name in enumerate(names)
        for what, gain in GAINS.items()
    ]


KNOWN = experience(told("digits-resnet-w4", "digits-resnet-w6", "digits-resnet-w11"))


def test_a_hidden_baseline_gets_the_recipe_that_was_best_on_its_kin():
    advice = advise(KNOWN, model("digits-resnet-w8", 3e6), HERE, "time", list(GAINS))
    first = advice.suggestions[0]
    assert first.recipe == INT8
    assert first.gain.low < 2.04 < first.gain.high
    assert first.points.value == pytest.approx(0, abs=0.5)
    assert (first.records, first.measured) == (3, False)
    assert first.baselines == ("digits-resnet-w4", "digits-resnet-w6", "digits-resnet-w11")
    assert advice.missing == ()


def test_a_loss_that_is_too_large_leaves_recipes_out_and_has_a_probability():
    advice = advise(KNOWN, model("digits-resnet-w8", 3e6), HERE, "time", list(GAINS), most_loss=1.0)
    assert {one.recipe for one in advice.suggestions} == {INT8, BF16}
    assert advice.too_lossy == 3  # 3, 8 and 30 points at an error of 10 %
    assert all(one.within > 0.8 for one in advice.suggestions)


def test_a_baseline_without_any_error_gets_suggestions_too():
    advice = advise(KNOWN, model("digits-resnet-w8", 3e6, error=0.0), HERE, "time", list(GAINS), most_loss=1.0)
    assert advice.suggestions[0].recipe == INT8
    assert advice.suggestions[0].points.value == 0


def test_what_was_measured_here_is_expected_with_less_doubt():
    elsewhere, here = (
        advise(KNOWN, model(name, 1e6), HERE, "time", [INT8]).suggestions[0]
        for name in ("digits-resnet-w8", "digits-resnet-w4")
    )
    assert here.measured
    assert math.log(here.gain.high / here.gain.low) < math.log(elsewhere.gain.high / elsewhere.gain.low)


@pytest.mark.parametrize(
    ("asked", "place", "goal", "said"),
    [
        (
            model("digits-vit-w8", 1.1e6), HERE, "time",
            "no study of a vit has time; known kinds: resnet; nearest in error: digits-resnet-w4",
        ),
        (model(), Target("openvino", 1, "m1"), "time", "no study on openvino has time; known: onnxruntime"),
        (model(metric="f1"), HERE, "time", "no study measures f1; known: accuracy"),
        (model(), HERE, "bits", "no record has the goal bits"),
    ],
)  # fmt: skip
def test_what_no_study_holds_is_said_and_nothing_is_suggested(asked, place, goal, said):
    advice = advise(KNOWN, asked, place, goal, list(GAINS))
    assert advice.suggestions == ()
    assert advice.missing == (said,)


def test_what_is_counted_needs_no_study_of_the_backend():
    counted = experience([outcome(model("digits-resnet-w4"), INT8, 2.0, bits=16.0)])
    assert gaps(counted, model(), Target("openvino", 1, "m1"), "bits") == []


def test_a_recipe_unlike_all_that_was_measured_has_no_basis():
    advice = advise(KNOWN, model("digits-resnet-w8", 3e6), HERE, "time", [INT8, recipe("a", "b", "c", "d", "e", "f")])
    assert [one.recipe for one in advice.suggestions] == [INT8]
    assert advice.no_basis == 1


def test_a_basis_is_a_doubt_well_below_the_first_one():
    belief = Belief(np.zeros(2), np.diag([0.63, 0.65]), 1.0, 0.0)  # standard deviations of 0.79 and 0.81
    assert has_basis(belief).tolist() == [True, False]


def test_near_copies_come_late_in_the_order():
    covariance = np.array([[1.0, 0.999, 0.0], [0.999, 1.0, 0.0], [0.0, 0.0, 1.0]])
    belief = Belief(np.array([0.2, 0.19, 0.0]), covariance, 1.0, 0.0)
    assert order(belief) == [0, 2, 1]
    assert order(Belief(np.array([0.1, 0.3, 0.2]), np.eye(3) * 1e-9, 1.0, 0.0)) == [1, 2, 0]
    assert order(Belief(np.zeros(0), np.zeros((0, 0)), 1.0, 0.0)) == []


def test_what_is_hardly_known_does_not_come_second_by_its_few_lucky_draws():
    means, sds = np.log([4.0, 0.9, 0.1]), np.array([0.05, 0.1, 1.5])  # the last is the best in 7 of 1,000 draws
    assert order(Belief(means, np.diag(sds**2), 2.0, 0.0)) == [0, 1, 2]
    hope = Belief(np.log([1.0, 0.9, 0.7]), np.diag([0.05, 0.05, 0.8]) ** 2, 1.0, 0.0)
    assert order(hope) == [0, 2, 1]  # it is the best in a third of all draws, if the first is not


def test_it_is_told_which_recipes_no_record_of_this_kind_of_network_has():
    mixed = experience([*told("digits-resnet-w4"), outcome(model("digits-vit-w8"), BF16, 1.2)])
    advice = advise(mixed, model("digits-vit-w16"), HERE, "time", list(GAINS))
    assert {one.recipe for one in advice.suggestions if one.kin} == {BF16}
    assert all(one.kin for one in advise(mixed, model("digits-resnet-w6"), HERE, "time", list(GAINS)).suggestions)


def test_settings_and_batch_sizes_that_no_record_has_are_told():
    places = [Target("openvino", 1, "m1"), Target("openvino", 64, "m1"), Target("torch", 7, "m1")]
    known = experience([outcome(model(), BF16, 1.2, place=place, bits=2.0) for place in places])
    for batch, near in [(7, "1 and 64"), (100, "64")]:
        said = [f"no record at batch {batch} on openvino has time; nearest {near}"]
        assert unmeasured(known, Target("openvino", batch, "m1"), "time") == said
    assert unmeasured(known, places[0], "time") == unmeasured(known, Target("openvino", 7, "m1"), "bits") == []
    said = ["no record on openvino[precision=bf16] has time; nearest: openvino"]
    assert unmeasured(known, Target("openvino[precision=bf16]", 64, "m1"), "time") == said


def test_outcomes_of_one_recipe_in_one_context_are_averaged():
    twice = [outcome(model(), INT8, 2.0, study="a"), outcome(model(), INT8, 8.0, study="b")]
    (datum,) = data_of(twice, "time")
    assert datum.value == pytest.approx(math.log(4))
    assert (
        len(data_of([outcome(model(), INT8, 2, place=Target("torch", batch, "m")) for batch in (1, 64)], "error")) == 1
    )


def test_of_many_data_the_nearest_are_kept():
    near, far = model("digits-resnet-w4"), model("cifar10-vit-w8", task="cifar10")
    many = [outcome(far if at % 2 else near, prune(0.1 + at * 1e-4), 1.0) for at in range(2 * MOST_DATA)]
    data = data_of(many, "time")
    kept = nearest_data(data, data[0].context)
    assert len(kept) == MOST_DATA
    assert {one.context.model.name for one in kept} == {near.name}


def test_what_the_store_keeps_changes_no_answer(tmp_path):
    asked = (KNOWN, model("digits-resnet-w8", 3e6), HERE, "time", list(GAINS))
    first, again = (advise(*asked, store=LocalStore(tmp_path)) for _ in range(2))
    assert first == again == advise(*asked)
    (kept, _) = sorted((tmp_path / "experience").glob("strengths-*.json"))
    fine = kept.read_text()
    for text in ("[1, 2]", '{"a": 1}', fine.replace("0.", "9.", 1), fine[:-9]):  # damaged: worked out again
        kept.write_text(text)
        assert advise(*asked, store=LocalStore(tmp_path)) == first
    assert kept.read_text() == fine
