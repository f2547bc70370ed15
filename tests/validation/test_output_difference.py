import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.foundation.errors import RequestError
from efflab.validation.backends.output_difference import difference
from efflab.validation.backends.tolerance import Rule, rule_of, rules_of

RULES = rules_of([])


def loose(dtype):
    return Rule(rtol=0.1, atol=0.01, reason="a test")


def exact(dtype):
    return Rule(rtol=0, atol=0, reason="a test")


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        (np.float32([1, 2]), np.float32([1.1, 2.2]), ""),
        (np.float32([1, 2]), np.float32([1, 3]), "1 of 2 values beyond 0.01 + 0.1 x |expected|, the worst 2 instead of 3 at [1]"),
        (np.float32([1]), np.float64([1]), "output is float32 of shape (1,), expected float64 of shape (1,)"),
        (np.float32([1]), np.float32([[1]]), "expected float32 of shape (1, 1)"),
        (np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf]), ""),
        (np.float32([1]), np.float32([np.nan]), "the worst 1 instead of nan"),
        (np.float32([np.inf]), np.float32([-np.inf]), "the worst inf instead of -inf"),
        (None, None, ""),
        (None, np.float32([1]), "output is nothing, expected float32 of shape (1,)"),
        ([np.float32([1])], [np.float32([1]), np.float32([2])], "output is 1 values, expected 2 values"),
        ([np.float32([1]), np.float32([5])], [np.float32([1]), np.float32([2])], "output[1]: 1 of 1 values"),
        (np.array(["a"], object), np.array(["a"], object), ""),
        (np.array(["a"], object), np.array(["b"], object), "has other words"),
    ],
)  # fmt: skip
def test_differences_by_hand(found, wanted, said):
    what = difference(found, wanted, loose).what
    assert (said in what) if said else what == ""


def test_whole_numbers_are_exact_and_bool_is_no_number():
    gap = difference(np.int64([1, 2, 2**62]), np.int64([1, 3, 2**62 + 1]), exact)
    assert gap.what == "output: 2 of 3 values differ, the first 2 instead of 3 at [1]"
    assert gap.max_abs_error == 1
    assert difference(np.array(True), np.array(False), exact).what.endswith("instead of False at []")
    assert difference(np.int8([100]), np.int8([-100]), exact).max_abs_error == 200


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8))
def test_what_is_equal_never_differs(values):
    array = np.array(values, np.float32)
    assert difference(array, array.copy(), exact).what == ""
    assert difference(-array, -array, exact).max_abs_error == 0


def test_the_first_rule_that_fits_counts_and_users_rules_come_first(tmp_path):
    assert rule_of(RULES, "Reshape", "float32", "x").rtol == 0
    assert rule_of(RULES, "Gelu", "float32", "x").rtol == 1e-4
    assert rule_of(RULES, "Gelu", "int32", "x").atol == 0
    assert rule_of(RULES, "QLinearConv", "uint8", "x").atol == 1
    assert rule_of(RULES, "Gelu", "complex64", "x") == Rule(rtol=0, atol=0, reason="no rule fits: exact")
    own = tmp_path / "own.yaml"
    own.write_text(
        "rules:\n- {operators: [Gelu], backends: [mychip], rtol: 0.05, atol: 0.01, reason: a table of 64 entries}\n"
    )
    mine = rules_of([own])
    assert rule_of(mine, "Gelu", "float32", "mychip").rtol == 0.05
    assert rule_of(mine, "Gelu", "float32", "other").rtol == 1e-4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules:\n- {rtol: 0.1, atol: 0}\n", "reason"),
        ("rules:\n- {rtol: -1, atol: 0, reason: none given}\n", "own.yaml:2"),
        ("rules:\n- {operator: [Gelu], rtol: 0, atol: 0, reason: none given}\n", "operators"),
        ("tolerances: []\n", "rules"),
    ],
)
def test_wrong_rules_are_refused_with_their_line(text, said, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(RequestError, match=said):
        rules_of([own])
