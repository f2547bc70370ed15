import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.comparison.columns import COLUMNS
from efflab.comparison.expressions import condition, sort_rows
from efflab.foundation.errors import RequestError

ROW = {**dict.fromkeys(COLUMNS), "speedup": 1.5, "backend": "torch", "batch_size": 64, "quality": 0.88}


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("speedup > 1.2", True),
        ('backend == "torch" and batch_size == 64', True),
        ("backend != 'torch' or speedup * 2 == 3", True),
        ("1 < speedup < 1.5", False),
        ("not (speedup - 0.5 >= 1 / 1)", False),
        ("-speedup < -1", True),
        ("pareto", None),
        ("pareto == None", True),
        ("speedup != None", True),
        ("pareto < 3", None),
        ("not pareto < 3", None),
        ("1 < pareto < 3", None),
        ("2 < speedup < pareto", False),
        ("pareto + 1 > 0", None),
        ("speedup / (batch_size - 64) > 0", None),
        ("pareto < 3 or speedup > 1", True),
        ("pareto < 3 and speedup > 1", None),
        ("pareto < 3 and speedup > 2", False),
        ("backend in ('torch', 'openvino')", True),
        ("backend not in ['torch']", False),
        ("backend in ('tor')", False),
        ("batch in (1, 64)", True),
        ("pareto in (1, 2)", None),
        ("batch == 64 and ms == None and shift_low == None", True),
    ],
)
def test_conditions_by_hand(text: str, held: bool | None) -> None:
    assert condition(text)(ROW) is held


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "speedup.real > 1", "[1][0]", "(lambda: 1)()", "backend[0] == 't'", "2 ** 9",
        "speedup in backend", "1 < batch in (1, 2)",
        "1 in (speedup, 2)", "f'{backend}'", "speedup if 1 else 2", "(x := 1)", "", "speedup >", "1; 2", "b'x' == 1",
        "~batch_size", "speedup // 1", "9 % 2", "{1: 2}", "(" * 400 + "1" + ")" * 400, "1" * 2000, "\0",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        condition(text)


@pytest.mark.parametrize("text", ["batch", "not speedup", "pareto and ms", "True", "speedup + 1"])
def test_what_is_no_comparison_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is no comparison; write for instance"):
        condition(text)


@pytest.mark.parametrize("text", ["pareto", "not quiet", "pareto and speedup > 1"])
def test_columns_of_yes_and_no_stand_alone(text: str) -> None:
    condition(text)


def test_a_division_by_zero_is_refused() -> None:
    with pytest.raises(RequestError, match="divides by zero"):
        condition("speedup / 0 > 1")


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'speedup'"):
        condition("speedupp > 1")


def test_a_long_list_of_names_is_wrapped() -> None:
    with pytest.raises(RequestError) as caught:
        condition("nonsense > 1")
    assert max(map(len, str(caught.value).splitlines())) < 130


@pytest.mark.parametrize("text", ["quality > 88", "0.5 < quality < 90", "88 <= error"])
def test_a_fraction_is_not_compared_with_per_cents(text: str) -> None:
    with pytest.raises(RequestError, match=r"is a fraction, shown as per cent: write 0\.(88|9) for"):
        condition(text)


@pytest.mark.parametrize("text", ["speed_verdict == 'fastr'", "speed_verdict in ('slower', 'fastr')"])
def test_a_word_that_no_verdict_is_names_those_that_are(text: str) -> None:
    with pytest.raises(
        RequestError, match="never 'fastr'.*did you mean 'faster'. known: control failed, faster, no difference, slower"
    ):
        condition(text)


def test_hints_say_what_the_columns_hold_instead() -> None:
    told = condition("backend == 'onnx' and batch in (32, 64) and speedup > 3").hints(
        [ROW, {**ROW, "backend": "openvino", "speedup": 2}]
    )
    assert told == ["backend is 'openvino', 'torch'", "speedup lies between 1.5 and 2"]


def test_what_is_missing_is_named() -> None:
    assert condition("pareto or speedup > ms").missing(ROW) == ["pareto", "latency_ms_p50"]


@pytest.mark.parametrize("text", ["backend > 3", "backend + 1 > 2", "backend in (1, 2)"])
def test_words_are_no_numbers(text: str) -> None:
    with pytest.raises(RequestError, match="word"):
        condition(text)(ROW)


@given(st.text(max_size=80))
def test_any_text_is_a_condition_or_a_request_error(text: str) -> None:
    with contextlib.suppress(RequestError):
        assert condition(text)(ROW) in (True, False, None)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_comparisons_are_those_of_python(value: float, limit: float, op: str) -> None:
    expected = {"<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit,
                "==": value == limit, "!=": value != limit}[op]  # fmt: skip
    row = {**ROW, "speedup": value}
    assert condition(f"speedup {op} {limit!r}")(row) is expected
    assert condition(f"not speedup {op} {limit!r}")(row) is not expected


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), max_size=8))
def test_sorting_puts_missing_values_last(values: list[float | None]) -> None:
    for column, sign in (("speedup", 1), ("-speedup", -1)):
        found = [row["speedup"] for row in sort_rows([{**ROW, "speedup": value} for value in values], column)]
        filled = [value for value in found if value is not None]
        assert found == filled + [None] * (len(values) - len(filled))
        assert filled == sorted(filled, key=lambda value: sign * value)


@pytest.mark.parametrize("value", [math.nan, None])
def test_what_is_no_number_is_neither_true_nor_false(value):
    row = {"speedup": value, "macs": 1e90}
    assert condition("speedup < 1.2")(row) is None
    assert condition("not speedup >= 1.2")(row) is None
    assert condition("speedup == None")(row) is True
    assert condition("macs * macs * macs * macs > 1")(row) is None  # beyond what floats hold
