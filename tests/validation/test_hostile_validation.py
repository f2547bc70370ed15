"""The files of a validation whose names and reasons a back end made up: text on the page, and sound XML."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from test_validate import case, validation

from efflab.validation.reporting.junit import junit
from efflab.validation.reporting.page import page

HOSTILE = [
    "<script>document.title='ran'</script>", '"><img src=x onerror="document.title=1">', "<!--<script>", "\x1b[2J\x07\x9b1m",
    "\u202eback\u200b", "one\ntwo", "\udc80\ufffe", "x" * 10_000, "]]>&lt;",
]  # fmt: skip


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.odd = 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.odd += [name for name, _ in attrs if name.startswith("on") or name == "src"]
        self.odd += [tag] if tag in ("img", "iframe", "svg") else []


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_backend_says_is_text(text):
    found = validation(case(text, "wrong", operator=text, reason=text), case("b", "skipped", reason=text))
    found["backend"], found["machine"] = f"mychip{text}", {text: text}
    shown = page(found, validation(case(text, "pass")))
    reader = Tags()
    reader.feed(shown)
    assert (reader.scripts, reader.odd) == (1, [])
    assert "Content-Security-Policy" in shown.split("<title>")[0]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e\udc80]", shown)
    root = ElementTree.fromstring(junit(found, validation(case(text, "pass"))).encode())
    assert root.find("testsuite/testcase/failure") is not None
