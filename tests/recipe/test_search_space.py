import math
import random

from hypothesis import given
from hypothesis import strategies as st

from efflab.recipe.search_choices import parse_steps
from efflab.recipe.search_space import (
    Dimension,
    Space,
    corners,
    count_paths,
    dimensions,
    holds,
    name_of,
    paths,
    recipe_at,
    settle,
    size,
    spelled,
)

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
    assert by_name["0.choose.1.1.train.choose.epochs"].values == (1, 2, 4)
    assert by_name["0.choose.1.1.train.choose.epochs"].ordered
    assert not by_name["2.choose.1.0.int8.choose.engine"].ordered


def test_points_from_a_file_lie_in_the_space_or_not():
    point, _, _ = settle(SPACE, lambda dimension: dimension.ends()[-1])
    assert holds(SPACE, point)
    for changed in (
        {}, {"start": 0}, {**point, "start": 2}, {**point, "start": "x"}, {**point, "start": -1}, {**point, "more": 0},
        {**point, "start": 0.0}, {**point, "start": True},
    ):  # fmt: skip
        assert not holds(SPACE, changed)


def test_ways_through_the_forks():
    assert count_paths(SPACE.steps) == len(paths(SPACE.steps)) == 4
    many = parse_steps([{"choose": [[], [{"p": {}}]]}] * 64)
    assert count_paths(many) == 2**64  # counted, not spelt out
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
