import string
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from efflab.foundation.config import Name, Settings, check, parse_yaml, read_yaml
from efflab.foundation.errors import RequestError

HERE = Path("x.yaml")


class Inner(Settings):
    ratio: float = 0.5


class Outer(Settings):
    name: str
    inner: Inner = Inner()
    many: list[Inner] = []


def problems(text, schema=Outer):
    with pytest.raises(RequestError) as caught:
        check(schema, parse_yaml(text, HERE))
    return [str(problem) for problem in caught.value.problems]


def test_all_problems_of_a_file_are_reported_at_once_with_their_lines():
    found = problems("nmae: a\ninner:\n  ratio: much\n  ratoi: 1\n")
    assert found[0] == "x.yaml:1: name: is missing"
    assert any(line.startswith("x.yaml:3: inner.ratio:") and "found 'much'" in line for line in found)
    assert any(line.startswith("x.yaml:4: inner.ratoi: unknown key 'ratoi'; did you mean 'ratio'?") for line in found)
    assert any("unknown key 'nmae'; did you mean 'name'?" in line for line in found)


def test_a_problem_in_a_list_names_its_index_and_line():
    assert problems("name: a\nmany:\n- ratio: 1.0\n- ratio: no\n")[0].startswith("x.yaml:4: many[1].ratio:")


class Every(Settings):
    text: str = ""
    name: Name = "x"
    whole: Annotated[int, Field(ge=2, lt=5000)] = 2
    number: Annotated[float, Field(gt=0, le=0.5)] = 0.5
    yes: bool = True
    one: Literal["left", "right"] = "left"
    some: Annotated[list[str], Field(min_length=1)] = ["x"]
    step: dict[str, dict[str, Any] | None] = {}
    either: str | dict[str, Inner] | None = None
    choice: Literal["all"] | Annotated[list[str], Field(min_length=1)] | None = None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text: 12", "text: must be text; put it in quotes (found 12)"),
        ("text: [a]", "text: must be text (found ['a'])"),
        ("text: yes", "text: must be text; put it in quotes (found true)"),
        (
            "name: a~b",
            "name: must be made of letters, digits, '.', '_' and '-', and begin with a letter or digit (found 'a~b')",
        ),
        ("name: " + "n" * 101, "name: must have at most 100 characters"),
        ("whole: 1e21", "whole: must be a whole number (found '1e21')"),
        ("whole: 2.5", "whole: must be a whole number (found 2.5)"),
        ("whole: '3'", "whole: must be a whole number; take the quotes away (found '3')"),
        ("whole: 1", "whole: must be at least 2 (found 1)"),
        ("whole: 5000", "whole: must be less than 5,000 (found 5000)"),
        ("number: 0", "number: must be more than 0"),
        ("number: 1", "number: must be at most 0.5 (found 1)"),
        ("number: 1e-3", "number: must be a number; YAML reads it as text: write 1.0e-3 or 0.001 (found '1e-3')"),
        ("number: 1.5e9", "number: must be a number; YAML reads it as text: write 1.5e+9 (found '1.5e9')"),
        ("number: much", "number: must be a number (found 'much')"),
        ("number: .nan", "number: must be a finite number"),
        ("yes: 1", "yes: must be true or false (found 1)"),
        ("one: lefd", "one: unknown value 'lefd'; did you mean 'left'? known: left, right"),
        ("some: []", "some: must have at least 1 entry (found [])"),
        ("some: a", "some: must be a list (found 'a')"),
        ("some:", "some: must be a list (found nothing)"),
        ("step: prune", "step: must be a mapping; write `prune: {}` (found 'prune')"),
        ("step: {prune: 5}", "step.prune: must be a mapping (found 5)"),
        ("either: 5", "either: must be text or a mapping (found 5)"),
        ("choice: 5", "choice: must be all or a list (found 5)"),
        ("choice: al", "choice: must be all or a list (found 'al')"),
        ("choice: []", "choice: must have at least 1 entry (found [])"),
        ("either: {a: {ratoi: 1}}", "either.a.ratoi: unknown key 'ratoi'; did you mean 'ratio'? known: ratio"),
        ("either: {a: {ratio: x}}", "either.a.ratio: must be a number (found 'x')"),
    ],
)
def test_each_problem_is_one_plain_line_without_the_words_of_a_library(text, said):
    (found,) = problems(text, Every)
    assert found.startswith(f"x.yaml:1: {said}")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "x.yaml:1", "empty"),
        ("# only a comment\n", "x.yaml:1", "empty"),
        ("- a\n- b\n", "x.yaml:1", "mapping"),
        ("name: a\nname: b\n", "x.yaml:2", "defined twice"),
        ("a:\n\tb: 1\n", "x.yaml:2", "tab"),
        ("a: [1, 2\nb: 3\n", "x.yaml", "not YAML"),
        ("a: {b: 1}}\n", "x.yaml:1", "not YAML"),
        ("a: !!python/object:os.system x\n", "x.yaml:1", "the tag !!python/object:os.system is not allowed"),
        ("b: 1\na: !mine x\n", "x.yaml:2", "the tag !mine is not allowed"),
        ("a: !!python/object/apply:os.system [x]\n", "x.yaml:1: a", "!!python/object/apply:os.system is not allowed"),
        ("b: 1\na: [1, !!set {4}]\n", "x.yaml:2: a[1]", "the tag !!set is not allowed"),
        ("!mine\na: 1\n", "x.yaml:", "the tag !mine is not allowed"),
        ("b: 1\na: x\0y\n", "x.yaml:2", "U+0000 may not stand in YAML"),
        ("a: " + "1" * 5000, "x.yaml:1", "a number of 5,000 digits is too long"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "x.yaml:3", "merge"),
        ("a: 2020-13-45\n", "x.yaml:1", "'2020-13-45' is no timestamp; put it in quotes if it is text"),
    ],
)
def test_bad_yaml_is_one_clear_problem(text, where, what):
    with pytest.raises(RequestError) as caught:
        parse_yaml(text, HERE)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(where)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_anchors_that_would_explode_are_refused():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    with pytest.raises(RequestError, match="expands to too much"):
        parse_yaml(text, HERE)


def test_deep_nesting_is_refused():
    # in a process of its own: what is not refused in time overflows the stack and ends the process
    program = "from pathlib import Path; from efflab.foundation.config import parse_yaml\n"
    program += "parse_yaml('a:\\n ' + '[' * 30_000 + ']' * 30_000, Path('x.yaml'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "x.yaml:2: nested deeper than 40 levels" in done.stderr.splitlines()[-1]


def test_plain_anchors_work():
    assert parse_yaml("a: &x [1, 2]\nb: *x\n", HERE).data == {"a": [1, 2], "b": [1, 2]}


def test_missing_directory_and_binary_files(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(RequestError, match="directory"):
        read_yaml(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(RequestError, match="UTF-8"):
        read_yaml(tmp_path / "b.yaml")
    (tmp_path / "big.yaml").write_text("a: " + "x" * 1_100_000)
    with pytest.raises(RequestError, match="larger than"):
        read_yaml(tmp_path / "big.yaml")


plain = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text(string.ascii_letters, max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(string.ascii_lowercase, min_size=1, max_size=4), inner, max_size=3),
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(string.ascii_lowercase, min_size=1, max_size=6), plain, min_size=1, max_size=4))
def test_what_is_dumped_is_read_back(data):
    loaded = yaml.safe_load(yaml.safe_dump(data))
    if all(isinstance(key, str) for key in loaded):  # YAML reads words such as `no` as booleans
        assert parse_yaml(yaml.safe_dump(data), HERE).data == data


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused_as_a_request(text):
    try:
        parse_yaml(text, HERE)
    except RequestError as error:
        assert str(error).startswith("x.yaml")
