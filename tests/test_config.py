import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from efflab.config import Settings, check, parse_yaml, read_yaml
from efflab.errors import RequestError

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
        ("a: !!python/object:os.system x\n", "x.yaml:1", "not YAML"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "x.yaml:3", "merge"),
        ("a: 2020-13-45\n", "x.yaml:1", "not YAML"),
    ],
)
def test_bad_yaml_is_one_clear_problem(text, where, what):
    with pytest.raises(RequestError) as caught:
        parse_yaml(text, HERE)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(where)
    assert what in str(caught.value)


def test_anchors_that_would_explode_are_refused():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    with pytest.raises(RequestError, match="expands to too much"):
        parse_yaml(text, HERE)


def test_deep_nesting_is_refused():
    with pytest.raises(RequestError, match="too much|deeper"):
        parse_yaml("a: " + "[" * 5000 + "]" * 5000, HERE)


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
