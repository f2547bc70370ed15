"""Tables as text: cells break no line, and are no markup and no formula; numbers stay numbers."""

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tabulate import tabulate_formats

from efflab.foundation.table_text import (
    csv_text,
    formula_free,
    line_beside,
    markdown,
    markdown_code,
    markdown_line,
    tabulated,
)

SIGNS = "=+-@\t\r;|`*_[]()<>!&#~$\\\"'\n\x1b\u202e \uff1d"
texts = st.text(st.sampled_from(SIGNS + "ab1.:/w"), max_size=30)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(texts, numbers), max_size=6))
@settings(derandomize=True, deadline=None)
def test_csv_has_no_formula_and_keeps_its_numbers(rows):
    read = list(csv.reader(io.StringIO(csv_text(["=name", "value"], rows))))
    assert read[0] == ["'=name", "value"]
    assert len(read) == len(rows) + 1
    for (_, number), (text, value) in zip(rows, read[1:], strict=True):
        assert type(number)(value) == number
        for part in text.split(";"):
            inside = part.strip()
            assert not re.match(r"[=+\-@\uff1d].", inside) or is_number(text)
        assert not re.search(r"[\x00-\x1f\x7f]", text)


def is_number(text):
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", ["-0.5", "+1", "-1.5e-07", "12%", "-inf", "2026-11-27", "prune50[ratio=0.5]", "-", ""])
def test_numbers_and_plain_words_stay(text):
    assert formula_free(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"), ("@SUM(1+1)", "'@SUM(1+1)"), ("-2+3", "'-2+3"), (" =1", " '=1"),
     ("a;=1", "a;'=1"), ("\t=1", "\\t=1"), ("\uff1d1", "'\uff1d1")],
)  # fmt: skip
def test_formulas_become_text(text, shown):
    assert formula_free(text) == shown


@given(texts)
@settings(derandomize=True, deadline=None)
def test_markdown_has_no_bare_markup(text):
    shown = markdown(text)
    bare = re.sub(r"\\[^\w\s]", "e", shown)
    assert not re.search(r"[`*<|~$]|\]\(|://", bare)
    assert "\n" not in shown
    line = markdown_line(text)
    assert not re.match(r"[#>+=\[-]|\d+[.)](\s|$)", line)


def test_markdown_by_hand():
    assert markdown_line("[x]: javascript:alert(1)") == r"\[x]: javascript:alert(1)"
    assert markdown("![a](http://b)") == r"![a]\(http:\//b)"
    assert markdown("<img src=x>|`a`") == r"\<img src=x>\|\`a\`"
    assert markdown("prune_channels, 1.03x [1.01, 1.27]") == "prune_channels, 1.03x [1.01, 1.27]"
    assert markdown_line("# head") == r"\# head"
    assert markdown_line("12. item") == r"12\. item"


def test_no_block_of_code_is_ended_by_what_it_holds():
    block = markdown_code("a: 1\n````\n# head\x1b", "yaml")
    assert block == "`````yaml\na: 1\n````\n# head\\x1b\n`````\n"


@pytest.mark.parametrize("style", sorted({*tabulate_formats} - {"colon_grid"}))
def test_no_cell_breaks_its_line_in_any_style(style):
    plain = tabulated(["a", "b"], [["x", "y"]], style)
    shown = tabulated(["a", "b"], [["x\n| forged |\x1b[2J", "<script>=1"]], style)
    assert len(shown.splitlines()) == len(plain.splitlines())
    assert "\x1b" not in shown
    if "html" in style:
        assert "<script>" not in shown


def test_a_cell_of_a_markdown_table_ends_no_cell():
    line = tabulated(["a", "b"], [["x | y", "z"]], "github").splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3


@pytest.mark.parametrize(
    ("style", "shown"),
    [("github", r"a \<img> \| b"), ("html", "a &lt;img&gt; | b"), ("simple", "a <img> | b")],
)
def test_a_line_under_a_table_is_text_there_too(style, shown):
    assert line_beside("a <img> | b", style) == shown
