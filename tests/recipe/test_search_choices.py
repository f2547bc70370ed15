import pytest

from efflab.recipe.search_choices import BadChoice, parse_steps


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"p": {}, "q": {}}], "exactly one technique"),
        ([{"choose": {"ratio": [1]}}], "takes a list of lists of steps"),
        ([{"choose": [[], {"p": {}}]}], "a way of choose must be a list of steps"),
        ([{"p": {"choose": {"r": []}}}], "write a list of values, or a range"),
        ([{"p": {"choose": {"r": 0.5}}}], "write a list of values, or a range"),
        ([{"p": {"choose": {"r": {"from": 1, "to": 1}}}}], "from must be less than to"),
        ([{"p": {"choose": {"r": {"from": 0, "to": 1, "log": True}}}}], "more than 0 with log"),
        ([{"p": {"choose": {"r": {"from": 0, "to": 1, "step": 0}}}}], "step must be a number above 0"),
        ([{"p": {"choose": {"r": {"from": 0, "to": 1, "step": 1e-9}}}}], "take a larger step"),
        ([{"p": {"choose": {"r": {"from": 0, "to": 1, "step": 1e-320}}}}], "take a larger step"),
        ([{"p": {"choose": {"r": {"from": 0.1, "to": float("inf"), "step": 0.1}}}}], "must be numbers"),
        ([{"p": {"choose": {"r": [1, 1]}}}], "given twice"),
        ([{"p": {"r": 1, "choose": {"r": [1, 2]}}}], "is given, and open too"),
        ([{"p": {"sweep": {"r": [1]}}}], "a search has no sweep"),
        ([{"p": [1]}], "must be a mapping"),
    ],
)
def test_bad_choices_name_the_step(steps, said):
    with pytest.raises(BadChoice) as caught:
        parse_steps(steps)
    assert said in str(caught.value)


def test_what_is_wrong_is_told_at_its_place():
    with pytest.raises(BadChoice) as caught:
        parse_steps([{"a": {}}, {"choose": [[], [{"p": {"choose": {"r": 1}}}]]}])
    assert caught.value.key == (1, "choose", 1, 0, "p", "choose", "r")
