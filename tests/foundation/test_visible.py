"""Text of others on a terminal: nothing in it steers, hides or reorders, and what was plain stays as it was."""

import io
import subprocess
import sys
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from efflab.foundation.visible import LONGEST_CELL, Guard, cell, harmless_output, unguarded, visible

HOSTILE = [
    "\x1b[2J",
    "\x1b]0;TITLE\x07",
    "a\rb",
    "a\x08b",
    "\x9b31m",
    "a\u202eb",
    "a\u200bb",
    "a\nb",
    "\x7f",
    "\udc80",
    "\ufeff",
]
texts = st.text(st.characters(), max_size=40) | st.sampled_from(HOSTILE)


@given(texts)
@settings(derandomize=True, deadline=None)
def test_what_is_shown_steers_nothing(text):
    shown = visible(text)
    assert not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in shown)
    shown.encode()
    assert visible(shown) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "S", "M"]), max_size=40))
@settings(derandomize=True, deadline=None)
def test_plain_text_stays(text):
    assert visible(f"{text} and\u00a0more") == f"{text} and\u00a0more"


def test_lines_stay_where_they_may():
    assert visible("a\n\tb\x1b[1m", keep="\n\t") == "a\n\tb\\x1b[1m"
    assert visible("a\nb") == "a\\nb"


def test_a_cell_is_cut_and_says_so():
    assert cell("x" * 10_000) == f"{'x' * LONGEST_CELL}... (10,000 characters)"
    assert cell(1.5) == "1.5"


def test_all_that_is_printed_is_made_visible():
    stream = io.StringIO()
    print("a\x1b[2Jb\rc", file=Guard(stream))
    Guard(stream).writelines(["d\x07", "e\n"])
    assert stream.getvalue() == "a\\x1b[2Jb\\rc\nd\\x07e\n"
    assert unguarded(Guard(stream)) is stream


def test_the_streams_are_guarded_for_a_while_only(capsys):
    before = sys.stdout
    with harmless_output():
        print("a\x1bb")
        print("c\x1bd", file=sys.stderr)
    assert sys.stdout is before
    assert capsys.readouterr() == ("a\\x1bb\n", "c\\x1bd\n")


def test_an_error_that_quotes_a_name_is_harmless(tmp_path):
    command = [sys.executable, "-m", "efflab.cli.main", "compare", f"{tmp_path}/a\x1b[2J\udc80.json"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"\x1b" not in done.stdout + done.stderr
    assert rb"\x1b[2J\udc80.json" in done.stderr
