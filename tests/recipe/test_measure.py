"""What a recipe may ask of the harness is what the harness takes: one definition of the bounds."""

import annotated_types
import pytest
from hypothesis import given, strategies
from pydantic import ValidationError
from worlds import make_card, make_recipe

from efflab.foundation.errors import RequestError
from efflab.profiling.pace import Budget, Pace
from efflab.recipe.measure import Measure
from efflab.recipe.recipe import load_recipe

LEAST = {"min_runs": 11, "rounds": 5}  # a recipe must ask for more than the harness's own quick checks
LOW, HIGH = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


def schema(of):
    return of.model_json_schema()["properties"]


@pytest.mark.parametrize("name", Pace.model_fields)
def test_the_two_schemas_have_the_same_bounds(name):
    ours, theirs = schema(Measure)[name], schema(Budget)[name]
    assert ours["type"] == theirs["type"]
    assert {key: ours.get(key) for key in HIGH} == {key: theirs.get(key) for key in HIGH}
    assert any(key in ours for key in HIGH)
    if name in LEAST:
        assert ours["minimum"] == LEAST[name] >= theirs["minimum"]
    else:
        assert {key: ours.get(key) for key in LOW} == {key: theirs.get(key) for key in LOW}


def test_all_of_the_budget_but_the_timeout_is_asked_for_by_recipes():
    assert set(Budget.model_fields) - set(Pace.model_fields) == {"prepare_timeout_s"}
    assert all(
        not isinstance(one, annotated_types.MultipleOf)
        for field in Pace.model_fields.values()
        for one in field.metadata
    )


def accepts(of, settings):
    try:
        of(**settings)
    except ValidationError:
        return False
    return True


SECONDS = strategies.floats(-1, 4000) | strategies.sampled_from([0.0, 600.0, 600.1, 3600.0, 3600.1])


@given(strategies.integers(-1, 2_000_000) | strategies.sampled_from([10, 11, 99_999, 100_000, 100_001]), SECONDS, SECONDS,
       strategies.integers(0, 1100))  # fmt: skip
def test_a_recipe_is_accepted_where_the_harness_accepts_it(min_runs, min_seconds, max_seconds, rounds):
    settings = {"min_runs": min_runs, "min_seconds": min_seconds, "max_seconds": max_seconds, "rounds": rounds}
    enough = min_runs >= LEAST["min_runs"] and rounds >= LEAST["rounds"]
    assert accepts(Measure, settings) == (enough and accepts(Budget, settings))


@pytest.mark.parametrize(
    ("measure", "key", "what"),
    [
        ("{min_runs: 200000}", "measure.min_runs", "must be at most 100,000 (found 200000)"),
        ("{min_seconds: 3600, max_seconds: 3600}", "measure.min_seconds", "must be at most 600 (found 3600)"),
        ("{min_seconds: 9.0}", "measure", "min_seconds (9) is more than max_seconds (5)"),
        ("{rounds: 4}", "measure.rounds", "must be at least 5 (found 4)"),
        ("{min_runs: 10}", "measure.min_runs", "must be at least 11 (found 10)"),
    ],
)
def test_what_the_harness_would_refuse_is_refused_by_the_plan(in_folder, measure, key, what):
    make_card(in_folder)
    recipe = make_recipe(in_folder, "c: [{cast: {}}]")
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("measure")]
    recipe.write_text("\n".join([*lines, f"measure: {measure}"]) + "\n")
    with pytest.raises(RequestError) as caught:
        load_recipe(recipe)
    (problem,) = caught.value.problems
    assert problem.where.endswith(f"r.yaml:6: {key}")
    assert problem.what == what
