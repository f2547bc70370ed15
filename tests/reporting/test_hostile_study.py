"""The report of a study that somebody else wrote: none of its texts is more than text on the page and in the files."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hostile import TEXTS, hostile_study

from efflab.cli.main import main
from efflab.records.study import save_study
from efflab.reporting.report import write_report

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "ul", "li", "nav", "a", "main", "details", "summary",
    "label", "select", "option", "div", "svg", "g", "path", "text", "rect", "line", "defs", "clippath", "input", "table",
    "thead", "tbody", "tr", "th", "td", "button", "section", "p", "pre", "script", "tspan",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("hostile") / "x"
    write_report(hostile_study(), where)
    return where


class Elements(HTMLParser):
    """Collects elements with their attributes, and the scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_has_its_own_elements_only(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    reader = Elements()
    reader.feed(page)
    assert {tag for tag, _ in reader.found} <= TAGS
    assert [given.get("id") for tag, given in reader.found if tag == "script"] == ["views", "library", None]
    for _, given in reader.found:
        assert not [
            name for name in given if name.startswith("on") or name in ("src", "srcdoc", "action", "formaction")
        ]
        assert str(given.get("href", "#")).startswith("#")
    assert not STEERING.search(page)


def test_the_page_permits_its_own_scripts_alone(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    head = page.split("<title>")[0]
    rule = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', head)
    assert rule
    parts = dict(part.strip().split(" ", 1) for part in rule[1].split(";"))
    assert parts["default-src"] == parts["connect-src"] == "'none'"
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", one) for one in parts["script-src"].split())


def test_embedded_data_hold_no_markup(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    for name in ("views", "library"):
        found = re.search(rf"<script type=text/plain id={name}>(.*?)</script>", page)
        assert found
        assert re.fullmatch("[A-Za-z0-9+/=]+", found[1])
    views = re.search(r"id=views>(.*?)<", page)
    assert views
    assert not STEERING.search(gzip.decompress(base64.b64decode(views[1])).decode())


def test_the_picture_is_sound_xml_without_scripts(folder: Path) -> None:
    root = ElementTree.fromstring((folder / "frontier.svg").read_text())
    assert {one.tag.rpartition("}")[2].lower() for one in root.iter()} <= TAGS
    assert not [name for one in root.iter() for name in one.attrib if name.startswith("on")]


def test_markdown_has_no_live_markup(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert not STEERING.search(text)
    before, recipe = text.split("## Recipe")
    own = before.replace("![Error against work and time](frontier.svg)", "")
    bare = re.sub(r"\\[^\w\s]", "e", own)
    assert not re.search(r"<|\]\(|`|forged: line$", bare)
    assert not re.search(r"^(?!#|-|\|)\s*forged", own, re.MULTILINE)
    assert re.search(r"\n(`+)yaml\n.*\n\1\n$", recipe, re.DOTALL)


@pytest.mark.parametrize("name", ["rows.csv", "shifts.csv"])
def test_no_cell_is_a_formula_and_numbers_stay(folder: Path, name: str) -> None:
    lines = list(csv.reader(io.StringIO((folder / name).read_text())))
    assert len({len(line) for line in lines}) == 1
    cells = [cell for line in lines for cell in line]
    assert not [cell for cell in cells if re.match(r"\s*[=@]", cell)]
    assert not [cell for cell in cells if re.match(r"[+-]", cell) and not re.fullmatch(r"[+-][\d.e+-]+|-inf", cell)]
    assert any(re.fullmatch(r"-\d.*", cell) for cell in cells)
    assert not any(STEERING.search(cell) for cell in cells)


@pytest.mark.parametrize("style", ["simple", "github", "csv"])
def test_the_terminal_is_not_steered(style: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_study(hostile_study(), tmp_path / "study.json")
    assert main(["compare", str(tmp_path), "--format", style, "--fail-if", "speedup < 100"]) == 1
    out, err = capsys.readouterr()
    assert not STEERING.search(out + err)
    assert not re.search(r"^forged", out + err, re.MULTILINE)


def test_a_name_that_is_no_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = hostile_study()
    for name in ("../up", "/tmp/abs", "..", ".hidden", "a/b", "a\n", "", "x" * 300, TEXTS[8]):
        study["name"] = name
        save_study(study, tmp_path / "in" / "study.json")
        assert main(["report", "in"]) == 2
        assert "--out FOLDER" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["in"]


def test_json_holds_the_texts_as_they_are(folder: Path) -> None:
    assert json.loads((folder / "report.json").read_text())["study"] == hostile_study()["name"]
