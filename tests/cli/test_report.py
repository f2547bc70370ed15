"""efflab report: what it writes and prints, and what it refuses."""

from __future__ import annotations

import pytest
from studies import example_study
from worlds import efflab

from efflab.records.study import save_study


@pytest.fixture
def written(in_folder):
    save_study(example_study(), in_folder / "s.json")
    return in_folder


def test_the_printed_headlines_are_those_of_the_page(written):
    done = efflab("report", "s.json", "--out", "r", "--inferences", "1e6", cwd=written)
    assert done.returncode == 0, done.stderr
    told = done.stdout.split("\n\n")[0].splitlines()
    report = (written / "r" / "report.md").read_text()
    assert all(f"- {sentence}" in report for sentence in told)
    assert "Over 1.00 M inferences" in report
    assert "r/index.html" in done.stdout


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf", "many"])
def test_a_wrong_number_of_inferences_is_refused(written, number):
    done = efflab("report", "s.json", "--out", "r", f"--inferences={number}", cwd=written)
    assert done.returncode == 2
    assert "--inferences" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (written / "r").exists()


def test_an_output_that_is_a_file_is_refused_and_left(written):
    (written / "r").write_text("mine")
    done = efflab("report", "s.json", "--out", "r", cwd=written)
    assert done.returncode == 2
    assert "cannot write the report to r" in done.stderr
    assert (written / "r").read_text() == "mine"
