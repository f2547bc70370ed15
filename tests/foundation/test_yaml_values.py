from pathlib import Path

import pytest

from efflab.foundation.config import parse_yaml
from efflab.foundation.errors import RequestError


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2001-01-01", "2001-01-01 is a date to YAML; put it in quotes if it is text"),
        ("2001-01-01 10:00:00", "is a date to YAML"),
        ("2001-13-45", "'2001-13-45' is no timestamp"),
        ("0x10", "0x10 is 16 to YAML; write decimal digits, or quotes if it is text"),
        ("010", "010 is 8 to YAML"),
        ("-010", "-010 is -8 to YAML"),
        ("0b11", "0b11 is 3 to YAML"),
        ("1:30", "1:30 is 90 to YAML"),
        ("1:30.5", "1:30.5 is 90.5 to YAML"),
        (".inf", "must be a finite number (found .inf)"),
        ("-.INF", "must be a finite number"),
        (".nan", "must be a finite number"),
        ("1.0e+999", "must be a finite number"),
        ("9" * 400, "a number of 400 digits is too long"),
        ("9" * 5000, "a number of 5,000 digits is too long"),
        ("0x" + "f" * 5000, "a number of 5,002 digits is too long"),
        ('"a\\0b"', "holds the character U+0000; take it out"),
        ('"\\e[2J"', "holds the character U+001B; take it out"),
        ("!!binary aGk=", "is bytes to YAML"),
        ("!!timestamp x", "'x' is no timestamp"),
        ("!!bool x", "'x' is no bool"),
        ("!!int x", "'x' is no int"),
    ],
)
def test_what_yaml_reads_otherwise_than_people_is_refused_with_line_and_key(written, said):
    with pytest.raises(RequestError) as caught:
        parse_yaml(f"a: 1\nb: {{c: [1, {written}]}}\n", Path("x.yaml"))
    (problem,) = caught.value.problems
    assert problem.where == "x.yaml:2: b.c[1]"
    assert said in problem.what


def test_plain_values_are_read_as_ever():
    found = parse_yaml(
        "{a: 0, b: -12, c: 1_000, d: 1.5e-3, e: 1e-3, f: '0x10', g: 0o17, h: 09, i: [yes, null]}", Path("x")
    )
    assert list(found.data.values()) == [0, -12, 1000, 0.0015, "1e-3", "0x10", "0o17", "09", [True, None]]


def test_a_key_with_a_control_character_is_refused():
    with pytest.raises(RequestError, match="holds the character U"):
        parse_yaml('"a\\0b": 1', Path("x.yaml"))
