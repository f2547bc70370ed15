import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.recipe.search_goal import Bound, Goal, contradiction, front, parse_bound

GOAL = Goal(("error", "macs"), (Bound("error", 0.2, True),))


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("error <= 0.12", Bound("error", 0.12, True)),
        (" bit_operations<=2e9 ", Bound("bit_operations", 2e9, True)),
        ("macs <= 1_000_000", Bound("macs", 1e6, True)),
        ("quality >= 0.88", Bound("quality", 0.88, False)),
        ("latency_ms_p50 <= .5", Bound("latency_ms_p50", 0.5, True)),
    ],
)
def test_bounds_are_read(text, bound):
    assert parse_bound(text) == bound


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("error < 0.12", "is no bound; write `error <= 0.12`"),
        ("error", "is no bound"),
        ("erorr <= 0.1", "did you mean 'error'?"),
        ("error <= 12", "a fraction from 0 to 1"),
        ("macs <= 1e400", "the number is too large"),
        ("error <= __import__('os')", "is no bound"),
    ],
)
def test_bad_bounds_are_told_with_the_right_spelling(text, said):
    with pytest.raises(ValueError, match="bound|mean|fraction|large") as caught:
        parse_bound(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (["error <= 0.1", "error >= 0.2"], "error >= 0.2 and error <= 0.1 contradict each other"),
        (["quality >= 0.95", "error >= 0.1"], "contradict each other"),  # quality 0.95 is an error of 0.05
        (["macs <= 0"], "macs <= 0 cannot be"),
        (["error <= 0.2", "error >= 0.2"], ""),
        (["error <= 0.2", "macs <= 1e6", "error <= 0.3"], ""),
    ],
)
def test_bounds_that_no_value_keeps_are_found(bounds, said):
    found = contradiction([parse_bound(one) for one in bounds])
    assert said in found if said else not found


def test_excess_is_a_share_of_the_limit():
    assert Bound("macs", 100, True).excess({"macs": 150}) == 0.5
    assert Bound("quality", 0.8, False).excess({"quality": 0.6}) == pytest.approx(0.25)
    assert GOAL.excess({"error": 0.3, "macs": 1}) == pytest.approx(0.5)
    assert GOAL.excess({"error": 0.1, "macs": 1}) == 0


def test_the_front_by_hand():
    candidates = [
        {"error": 0.10, "macs": 9.0},
        {"error": 0.15, "macs": 5.0},
        {"error": 0.16, "macs": 6.0},  # beaten by the second
        {"error": 0.30, "macs": 1.0},  # breaks the bound
        {"error": 0.15, "macs": 5.0},  # the second again
    ]
    assert front(GOAL, candidates) == [0, 1]


values = st.fixed_dictionaries({"error": st.floats(0, 1), "macs": st.floats(1, 1e9)})


@given(st.lists(values, max_size=12))
def test_nothing_on_the_front_is_beaten_and_everything_else_is(candidates):
    kept = front(GOAL, candidates)
    fit = [index for index, one in enumerate(candidates) if one["error"] <= 0.2]
    assert set(kept) <= set(fit)
    for index in fit:
        better = [one for one in fit if GOAL.beats(candidates[one], candidates[index])]
        equal = [one for one in kept if candidates[one] == candidates[index]]
        assert bool(better) != bool(equal)
