import math

import numpy as np
import pytest
from outcomes import HERE, experience, model, outcome, prune, recipe

from efflab.suggest.advice import data_of
from efflab.suggest.gaussian_process import Belief
from efflab.suggest.leave_one_out import (
    LeftOut,
    leave_one_out,
    listed_trials,
    random_trials,
    search_trials,
    summary,
)

RECIPES = [recipe("export_onnx", "quantize_static"), recipe("cast"), prune(0.3), prune(0.5), prune(0.8)]
GAINS = [2.0, 1.3, 1.1, 0.7, 0.3]


def told(name: str, gains: list[float]) -> list:
    return [outcome(model(name), what, gain) for what, gain in zip(RECIPES, gains, strict=True)]


@pytest.mark.parametrize(("good", "count"), [(1, 1), (1, 7), (3, 7), (7, 7)])
def test_random_order_takes_as_many_trials_as_simulated(good, count):
    generator = np.random.default_rng(0)
    trials = [1 + int(np.argmax(generator.permutation(count) < good)) for _ in range(20_000)]
    assert random_trials(good, count) == pytest.approx(np.mean(trials), rel=0.02)


def test_a_table_of_two_baselines_by_hand():
    known = experience(told("digits-resnet-w4", GAINS) + told("digits-resnet-w8", GAINS))
    rows = leave_one_out(known, "time")
    assert [(row.baseline, row.recipes, row.near_best) for row in rows] == [
        ("digits-resnet-w4", 5, 1), ("digits-resnet-w8", 5, 1)]  # fmt: skip
    assert [(row.random, row.suggest, row.suggest_and_learn) for row in rows] == [(3.0, 1.0, 1.0)] * 2
    found = summary(rows)
    assert found.trials["random"] == 3
    assert found.saved["random"] == (2, 2, 2)
    assert found.learning[0] == found.trials["search"] - found.trials["suggest_and_learn"]
    assert found.first == 1


def test_a_hidden_baseline_teaches_nothing_of_itself():
    wrong = told("digits-resnet-w4", GAINS[::-1]) + told("digits-resnet-w8", GAINS)
    rows = {row.baseline: row for row in leave_one_out(experience(wrong), "time")}
    assert rows["digits-resnet-w8"].suggest == 5  # the other one says the opposite, and the truth is hidden


def test_hiding_the_family_leaves_no_study_of_its_kind():
    rows = leave_one_out(
        experience(told("digits-resnet-w4", GAINS) + told("digits-resnet-w8", GAINS)), "time", "family"
    )
    assert all(row.missing == "no record has the goal time" for row in rows)
    assert all(row.suggest == row.random and row.suggest_and_learn == row.search for row in rows)
    assert all(row.listed == 0 for row in rows)


def test_places_with_few_recipes_say_nothing():
    assert leave_one_out(experience(told("digits-resnet-w4", GAINS)[:4]), "time") == []
    assert summary([]) is None


def test_where_no_listed_recipe_is_good_the_rest_goes_in_random_order():
    belief = Belief(np.array([0.3, 0.2, 0.1, 0.0, 0.0]), np.eye(5) * 1e-6, 1.0, 0.0)
    good = np.array([False, False, False, True, False])
    assert listed_trials(belief, np.array([0, 1]), good) == 2 + random_trials(1, 3)
    assert listed_trials(belief, np.array([0, 1, 2, 3]), good) == 4
    assert listed_trials(belief, np.array([], int), good) == random_trials(1, 5)


def test_plain_search_goes_where_its_own_trials_point():
    slope = [outcome(model(), prune(ratio), math.exp(3 * ratio)) for ratio in np.linspace(0.05, 0.95, 19)]
    known = data_of(slope, "time")
    values = np.array([one.value for one in known])
    good = values >= values.max() + math.log(0.95)
    assert search_trials(known, good) < 0.6 * random_trials(int(good.sum()), len(known))


def test_baselines_weigh_alike_whatever_their_places():
    def row(name: str, suggest: float) -> LeftOut:
        return LeftOut(name, HERE.backend, 1, 5, 1, 3.0, 2.0, suggest, suggest, 5, 4, "")

    found = summary([row("a", 1), row("a", 1), row("a", 1), row("b", 3)])
    assert found.trials["suggest"] == 2
    assert found.saved["random"][0] == 1
    assert found.saved["random"][1:] == (0, 2)
    assert (found.first, found.inside, found.baselines) == (0.5, 0.8, 2)
