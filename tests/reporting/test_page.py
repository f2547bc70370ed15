import base64
import builtins
import errno
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import example_study, failed, record, study_of

from efflab.comparison.compare import rows
from efflab.foundation.errors import RequestError
from efflab.records.record import Role
from efflab.records.study import load_study
from efflab.reporting.charts.figures import frontier_chart
from efflab.reporting.charts.labels import Box, place_labels, short_names
from efflab.reporting.charts.panel import technique_of
from efflab.reporting.headlines import headlines, noise_sentence
from efflab.reporting.page import Drawn
from efflab.reporting.report import draws_for, write_report
from efflab.reporting.table import fold_unavailable

STUDY = example_study()
STUDY["recipe"] = "name: x  # </script><img src=http://example.org/x>\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("report") / "x"
    write_report(STUDY, where)
    return where


class Loads(HTMLParser):
    """Collects all that a browser would fetch, and the cells of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.cells = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.cells += tag == "td"
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]


def test_all_files_are_written(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "index.html", "report.md", "report.json", "study.json", "samples.npz", "rows.csv", "shifts.csv",
        "frontier.svg", "frontier.png",
    }  # fmt: skip
    assert load_study(folder / "study.json") == json.loads(json.dumps(STUDY))
    assert (folder / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert "prune50-int8" in (folder / "frontier.svg").read_text()
    assert "![" in (folder / "report.md").read_text()


def test_pages_can_share_what_draws_their_charts(folder: Path, tmp_path: Path) -> None:
    write_report(STUDY, tmp_path / "one two" / "page", library=tmp_path / "charts.js")
    page = (tmp_path / "one two" / "page" / "index.html").read_text()
    reader = Loads()
    reader.feed(page)
    assert [one for one in reader.found if not one.startswith(("#", "data:"))] == ["../../charts.js"]
    assert "vegaEmbed" in (tmp_path / "charts.js").read_text()
    assert len(page) < len((folder / "index.html").read_text()) - 300_000


def test_the_page_loads_nothing(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    reader = Loads()
    reader.feed(page)
    assert [one for one in reader.found if not one.startswith(("#", "data:"))] == []
    assert reader.cells > 10 * len(fold_unavailable(rows(STUDY)))
    assert len(page) < 3e6
    assert not re.search(r"@import|url\(\s*['\"]?http", page)
    for sentence in headlines(rows(STUDY)):
        assert sentence.split(":")[0] in page


def test_what_draws_is_packed_and_the_page_holds_rounded_numbers(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    packed = {
        name: re.search(rf"<script type=text/plain id={name}>([^<]*)</script>", page)[1]
        for name in ("views", "library")
    }
    views = json.loads(gzip.decompress(base64.b64decode(packed["views"])))
    assert len(views) == page.count("<option ")
    assert "vegaEmbed" in gzip.decompress(base64.b64decode(packed["library"])).decode()
    numbers = [one for one in re.findall(r'data-value="([^"]*)"', page) if re.fullmatch(r"-?\d+\.\d+", one)]
    assert numbers
    assert max(len(one.replace(".", "").lstrip("-0")) for one in numbers) <= 6


def test_headlines_say_what_was_planted() -> None:
    told = "\n".join(headlines(rows(STUDY)))
    assert "Fastest with its quality kept: int8 on onnxruntime, batch 1: 2.5" in told
    assert "Largest certain shift of the frontier in measured time: prune50-int8 on onnxruntime" in told
    assert "Does not help, moving along the law of the dense family gives more: bf16" in told
    assert "Not faster than the baseline: bf16 on torch, batch 1 (0.909x [" in told
    assert "rows that save 1.1x or more realise 0.75 (prune50 on " in told
    assert noise_sentence(rows(STUDY)).startswith("Noise floor: the same model timed twice differs at most by 1.000x")


def test_headlines_without_anything_measured() -> None:
    lost = rows(study_of([failed("a", "broken")]))
    assert headlines(lost)[-1].startswith("Not measured: a on torch")
    with pytest.raises(RequestError, match="no measured row"):
        frontier_chart(lost)


def test_panels_are_macs_and_each_backend_at_the_batch_of_the_first_headline() -> None:
    titles = re.findall(r'"text": "(Error against [^"]+)"', json.dumps(frontier_chart(rows(STUDY)).to_dict()))
    assert titles == [
        "Error against work, on onnxruntime",
        "Error against measured time, on onnxruntime, batch 1",
        "Error against measured time, on torch, batch 1",
    ]


def test_legend_names_techniques_without_their_preparation() -> None:
    (first,) = rows(study_of([record("a", 1e6, 0.2)]))

    def told(role: Role, *steps: str) -> str:
        return technique_of(replace(first, role=role, steps=steps))

    assert (
        told("variant", "prune_channels", "finetune", "export_onnx", "quantize_static")
        == "prune_channels + quantize_static"
    )
    assert told("variant", "export_onnx") == "export_onnx"
    assert told("control", "prune_channels") == "prune_channels (control)"


def test_without_altair_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "altair":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RequestError, match=r'pip install "efflab\[report\]"'):
        frontier_chart(rows(STUDY))


@given(st.lists(st.tuples(st.floats(0, 430), st.floats(0, 330)), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_labels_stay_inside_and_clear(points: list[tuple[float, float]]) -> None:
    boxes = place_labels(points, ["prune50"] * len(points), 430, 330)
    for index, box in enumerate(boxes):
        assert box.left >= -0.01
        assert box.right <= 430.01
        assert all(box.overlap(other) == 0 for other in boxes[:index])


def test_overlap_by_hand() -> None:
    assert Box(0, 0, 4, 4).overlap(Box(2, 3, 9, 9)) == 2
    assert Box(0, 0, 1, 1).overlap(Box(1, 0, 2, 1)) == 0


def test_dense_models_go_by_what_tells_them_apart() -> None:
    names = {
        "net-small-w4": "dense", "net-small-w11": "baseline", "net-small-x": "variant", "x@net-small-w11": "variant",
    }  # fmt: skip
    assert short_names(rows(study_of([record(name, 1e6, 0.2, role=role) for name, role in names.items()]))) == [
        "w4",
        "w11",
        "net-small-x",
        "x@w11",
    ]


def test_a_label_stays_clear_of_leaders_of_others() -> None:
    # a row of points so close that labels need leaders
    points = [(200.0 + 3 * index, 160.0) for index in range(7)]
    boxes = place_labels(points, ["prune50-int8"] * 7, 430, 330)
    assert all(one.overlap(other) == 0 for index, one in enumerate(boxes) for other in boxes[:index])


def test_marks_at_one_spot_are_nested() -> None:
    same = [record("a", 1e6, 0.2, latency_ms=1.0), record("b", 1e6, 0.2, latency_ms=1.0), record("c", 4e6, 0.1)]
    chart = json.dumps(frontier_chart(rows(study_of([*STUDY["records"], *same]))).to_dict())
    sizes = {one["name"]: one["size"] for one in _marks(json.loads(chart)) if one.get("technique")}
    assert sizes["a"] > sizes["b"]


def _marks(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        found = [node] if {"name", "size", "technique"} <= set(node) else []
        return found + [mark for value in node.values() for mark in _marks(value)]
    return [mark for value in node for mark in _marks(value)] if isinstance(node, list) else []


def test_the_figure_shows_the_batch_that_the_first_headline_speaks_of() -> None:
    records = [one for one in STUDY["records"] if one["variant"] != "int8" or one["batch_size"] == 64]
    found = rows(study_of([one for one in records if one["variant"] != "prune50-int8"]))
    (first,) = [line for line in headlines(found) if line.startswith("Fastest with its quality kept")]
    assert first.startswith("Fastest with its quality kept: int8 on onnxruntime, batch 64")
    titles = re.findall(
        r'"text": "Error against measured time, on ([^"]+)"', json.dumps(frontier_chart(found).to_dict())
    )
    assert set(titles) == {"onnxruntime, batch 64", "torch, batch 64"}


def test_a_full_disk_leaves_an_older_report_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "efflab.reporting.report._draw", lambda _: Drawn("<svg/>", b"png", {"view": {}}, "<svg/>", "script")
    )
    where = tmp_path / "x"
    write_report(STUDY, where)
    before = {path.name: path.read_bytes() for path in where.iterdir()}

    def full(self: Path, data: Any, *rest: Any, **more: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write_bytes", "write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, full)
            with pytest.raises(RequestError, match="no space left on device; what was there is unchanged"):
                write_report(STUDY, where)
            with pytest.raises(RequestError):
                write_report(STUDY, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in where.iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_a_study_without_variants_has_a_report(tmp_path: Path) -> None:
    alone = [one for one in STUDY["records"] if one["role"] == "baseline" and one["batch_size"] == 1]
    written = write_report(study_of(alone), tmp_path / "x")
    assert all(path.is_file() for path in written.paths)
    assert (
        "1.79" not in (tmp_path / "x" / "frontier.svg").read_text()[:300]
    )  # the largest number: a picture without a size
    assert (tmp_path / "x" / "frontier.png").stat().st_size > 1000


def test_a_large_study_is_drawn_in_part_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where, most in (("reporting.table.MOST_ROWS", 12), ("reporting.section.MOST_LINES", 3), ("reporting.report.MOST_VIEWS", 2),
                        ("reporting.charts.panel.MOST_MARKS", 2), ("reporting.charts.chosen.MOST_MARKS", 2),
                        ("foundation.wording.MOST_NAMED", 4), ("reporting.section.MOST_COLUMNS", 4)):  # fmt: skip
        monkeypatch.setattr(f"efflab.{where}", most)
    write_report(STUDY, tmp_path / "x")
    page, shown = (tmp_path / "x" / "index.html").read_text(), len(rows(STUDY))
    assert page.count('<tr class="baseline">') == 4
    assert f"12 of {shown} rows stand here" in page
    assert "more lines are left out here; report.json holds all" in page
    assert "more columns are left out here; report.json holds all" in page
    assert "more are left out here; rows.csv of a report holds all" in page
    assert page.count("<option ") == 2
    assert "drawn: 2 of" in (tmp_path / "x" / "frontier.svg").read_text()
    assert f"12 of {shown} rows stand here" in (tmp_path / "x" / "report.md").read_text()
    assert (tmp_path / "x" / "rows.csv").read_text().count("\n") == shown + 1


def test_a_large_study_shares_fewer_draws() -> None:
    few = {**STUDY, "records": STUDY["records"] * 2}
    assert draws_for(STUDY) == draws_for(few) == 2000
    assert draws_for({**STUDY, "records": STUDY["records"][:1] * 10_000}) == 400
