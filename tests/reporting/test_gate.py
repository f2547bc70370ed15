import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efflab.errors import RequestError
from efflab.reporting.gate import condition, sort_rows

COLUMNS = ["speedup", "backend", "batch_size", "pareto"]
ROW = {"speedup": 1.5, "backend": "torch", "batch_size": 64, "pareto": None}


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("speedup > 1.2", True),
        ('backend == "torch" and batch_size == 64', True),
        ("backend != 'torch' or speedup * 2 == 3", True),
        ("1 < speedup < 1.5", False),
        ("not (speedup - 0.5 >= 1 / 1)", False),
        ("-speedup < -1", True),
        ("pareto", False),
        ("pareto == None", True),
        ("speedup != None", True),
        ("pareto < 3", False),
        ("pareto >= 3", False),
        ("pareto + 1 > 0", False),
        ("speedup / (batch_size - 64) > 0", False),
    ],
)
def test_conditions_by_hand(text: str, held: bool) -> None:
    assert condition(text, COLUMNS)(ROW) is held


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "speedup.real > 1", "[1][0]", "(lambda: 1)()", "backend[0] == 't'", "2 ** 9",
        "speedup in (1, 2)", "f'{backend}'", "speedup if 1 else 2", "(x := 1)", "", "speedup >", "1; 2", "b'x' == 1",
        "~batch_size", "speedup // 1", "9 % 2", "{1: 2}", "(" * 400 + "1" + ")" * 400, "1" * 2000, "\0",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        condition(text, COLUMNS)


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'speedup'"):
        condition("speedupp > 1", COLUMNS)


@pytest.mark.parametrize("text", ["backend > 3", "backend + 1 > 2"])
def test_words_are_no_numbers(text: str) -> None:
    with pytest.raises(RequestError, match="word"):
        condition(text, COLUMNS)(ROW)


@given(st.text(max_size=80))
def test_any_text_is_a_condition_or_a_request_error(text: str) -> None:
    with contextlib.suppress(RequestError):
        assert condition(text, COLUMNS)(ROW) in (True, False)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_comparisons_are_those_of_python(value: float, limit: float, op: str) -> None:
    expected = {"<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit,
                "==": value == limit, "!=": value != limit}[op]  # fmt: skip
    row = {**ROW, "speedup": value}
    assert condition(f"speedup {op} {limit!r}", COLUMNS)(row) is expected
    assert condition(f"not speedup {op} {limit!r}", COLUMNS)(row) is not expected


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), max_size=8))
def test_sorting_puts_missing_values_last(values: list[float | None]) -> None:
    for column, sign in (("speedup", 1), ("-speedup", -1)):
        found = [row["speedup"] for row in sort_rows([{"speedup": value} for value in values], column)]
        filled = [value for value in found if value is not None]
        assert found == filled + [None] * (len(values) - len(filled))
        assert filled == sorted(filled, key=lambda value: sign * value)
