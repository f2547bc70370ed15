import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.search.space import (
    Dimension,
    Space,
    corners,
    dimensions,
    name_of,
    parse_steps,
    paths,
    recipe_at,
    settle,
    size,
    spelled,
)  # fmt: skip

STEPS = [
    {
        "choose": [
            [],
            [
                {"prune": {"round_to": 1, "choose": {"ratio": {"from": 0.1, "to": 0.3, "step": 0.1}}}},
                {"train": {"choose": {"epochs": [4, 1, 2]}}},
            ],
        ]
    },
    {"export": None},
    {"choose": [[], [{"int8": {"choose": {"engine": ["a", "b"]}}}]]},
]
SPACE = Space(Dimension("start", ("small", "large")), parse_steps(STEPS))


def every_point(space):
    """Settle all choices in turn, like an odometer."""
    found, trail = {}, []
    while True:
        asked = []

        def ask(dimension, asked=asked, trail=trail):
            place = trail[len(asked)] if len(asked) < len(trail) else 0
            asked.append((place, int(dimension.size)))
            return place

        point, card, steps = settle(space, ask)
        found[name_of(point)] = (card, steps)
        while asked and asked[-1][0] + 1 >= asked[-1][1]:
            asked.pop()
        if not asked:
            return found
        trail = [place for place, _ in asked[:-1]] + [asked[-1][0] + 1]


def test_the_size_is_the_number_of_points():
    # 2 cards x (nothing, or 3 ratios x 3 epochs) x (nothing, or 2 engines)
    assert size(SPACE) == 2 * (1 + 9) * 3 == len(every_point(SPACE))
    assert size(Space(SPACE.start, parse_steps([{"p": {"choose": {"r": {"from": 0.1, "to": 0.5}}}}]))) == math.inf
    assert size(Space(Dimension("start", ("one",)), parse_steps([{"p": {}}]))) == 1


def test_a_point_gives_its_recipe_again():
    for card, steps in every_point(SPACE).values():
        assert card in ("small", "large")
        assert ("export", {}) in steps
    point, card, steps = settle(SPACE, lambda dimension: dimension.ends()[-1])
    assert recipe_at(SPACE, point) == (card, steps)
    assert (card, steps) == (
        "large",
        [("prune", {"round_to": 1, "ratio": 0.3}), ("train", {"epochs": 4}), ("export", {}), ("int8", {"engine": "b"})],
    )
    assert spelled(card, steps) == "large: prune(round_to=1, ratio=0.3) > train(epochs=4) > export > int8(engine=b)"


def test_numbers_are_in_order_and_words_are_not():
    by_name = {dimension.name: dimension for dimension in dimensions(SPACE)}
    assert by_name["0.1.1.train.epochs"].values == (1, 2, 4)
    assert by_name["0.1.1.train.epochs"].ordered
    assert not by_name["2.1.0.int8.engine"].ordered


def test_ways_through_the_forks():
    assert [[step.technique for step in way] for way in paths(SPACE.steps)] == [
        ["export"],
        ["export", "int8"],
        ["prune", "train", "export"],
        ["prune", "train", "export", "int8"],
    ]


@given(st.integers(0, 2**32))
def test_what_is_drawn_lies_in_the_space(seed):
    generator = random.Random(seed)
    ranges = parse_steps(
        [
            {
                "p": {
                    "choose": {
                        "a": {"from": 0.01, "to": 1, "log": True},
                        "b": {"from": 2, "to": 5},
                        "c": {"from": 0.5, "to": 2},
                    }
                }
            }
        ]
    )
    _, _, [(_, settings)] = settle(Space(Dimension("start", ("x",)), ranges), lambda one: one.draw(generator))
    assert 0.01 <= settings["a"] <= 1
    assert settings["b"] in (2, 3, 4, 5)
    assert 0.5 <= settings["c"] <= 2


def test_corners_stand_at_the_ends():
    found = corners(SPACE, 50)
    assert len({name_of(point) for point in found}) == len(found)
    ratios = {recipe_at(SPACE, point)[1][0][1].get("ratio") for point in found} - {None}
    assert ratios == {0.1, 0.3}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"p": {}, "q": {}}], "exactly one technique"),
        ([{"choose": {"ratio": [1]}}], "takes a list of lists of steps"),
        ([{"choose": [[], {"p": {}}]}], "way 1 of choose must be a list of steps"),
        ([{"p": {"choose": {"r": []}}}], "write a list of values, or a range"),
        ([{"p": {"choose": {"r": 0.5}}}], "write a list of values, or a range"),
        ([{"p": {"choose": {"r": {"from": 1, "to": 1}}}}], "from must be less than to"),
        ([{"p": {"choose": {"r": {"from": 0, "to": 1, "log": True}}}}], "more than 0 with log"),
        ([{"p": {"choose": {"r": {"from": 0, "to": 1, "step": 0}}}}], "step must be a number above 0"),
        ([{"p": {"choose": {"r": {"from": 0, "to": 1, "step": 1e-9}}}}], "take a larger step"),
        ([{"p": {"choose": {"r": [1, 1]}}}], "given twice"),
        ([{"p": {"r": 1, "choose": {"r": [1, 2]}}}], "is given, and open too"),
        ([{"p": {"sweep": {"r": [1]}}}], "a search has no sweep"),
        ([{"p": [1]}], "must be a mapping"),
    ],
)
def test_bad_choices_name_the_step(steps, said):
    with pytest.raises(ValueError, match="step|0.p") as caught:
        parse_steps(steps)
    assert said in str(caught.value)
