import random

import pytest

from efflab.recipe.search_choices import parse_steps
from efflab.recipe.search_goal import Bound, Goal
from efflab.recipe.search_space import Dimension, Space, name_of, recipe_at, settle
from efflab.search.propose import propose

pytest.importorskip("optuna")
STEPS = [{"p": {"choose": {"a": {"from": 0, "to": 19}, "b": {"from": 0, "to": 19}}}}, {"choose": [[], [{"q": {}}]]}]
SPACE = Space(Dimension("start", ("x", "y")), parse_steps(STEPS))
GOAL = Goal(("macs",), (Bound("error", 0.5, True),))


def measured(space, number, point):
    """A bowl whose least feasible macs stand at a = 13, b = 4, with q, from y."""
    card, steps = recipe_at(space, point)
    settings = steps[0][1]
    far = (settings["a"] - 13) ** 2 + (settings["b"] - 4) ** 2 + 30 * (len(steps) == 1) + 30 * (card == "x")
    values = {"macs": 1.0 + far, "error": 0.1 if settings["b"] >= 2 else 0.9}
    return {"number": number, "point": point, "state": "done", "why": "", "values": values}


def search(count, seed, batch=2):
    trials = []
    while len(trials) < count:
        points = propose(SPACE, GOAL, trials, batch, seed)
        trials += [measured(SPACE, len(trials) + at, point) for at, point in enumerate(points)]
    return trials


def best(trials):
    return min(one["values"]["macs"] for one in trials if one["values"]["error"] <= 0.5)


def test_it_is_better_than_chance_at_a_bowl():
    found, drawn = [], []
    for seed in range(5):
        found.append(best(search(60, seed)))
        generator = random.Random(seed)
        points = [settle(SPACE, lambda one, g=generator: one.draw(g))[0] for _ in range(60)]
        drawn.append(best([measured(SPACE, at, point) for at, point in enumerate(points)]))
    assert sum(found) < sum(drawn)


def test_an_interrupted_search_proposes_what_an_uninterrupted_one_does():
    trials = search(16, 3)
    for done in (0, 2, 8, 14):
        again = propose(SPACE, GOAL, trials[:done], 2, 3)
        assert [name_of(point) for point in again] == [name_of(one["point"]) for one in trials[done : done + 2]]


def test_no_point_comes_twice_and_a_space_ends():
    space = Space(
        Dimension("start", ("x",)), parse_steps([{"p": {"choose": {"a": [1, 2, 3]}}}, {"choose": [[], [{"q": {}}]]}])
    )
    trials = []
    while points := propose(space, GOAL, trials, 4, 0):
        for point in points:
            trials.append({"number": len(trials), "point": point, "state": "failed", "why": "x", "values": {}})
    assert len({name_of(one["point"]) for one in trials}) == len(trials) == 6


def test_a_space_of_one_point_gives_it_once():
    space = Space(Dimension("start", ("x",)), parse_steps([{"p": {}}]))
    (point,) = propose(space, GOAL, [], 2, 0)
    assert recipe_at(space, point) == ("x", [("p", {})])
    trial = {"number": 0, "point": point, "state": "stopped", "why": "x", "values": {"macs": 1.0}}
    assert propose(space, GOAL, [trial], 2, 0) == []
