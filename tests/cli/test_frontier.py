import json

import numpy as np
import pytest
from worlds import efflab


@pytest.fixture
def table(in_folder):
    compute = np.logspace(15, 20, 24)
    rows = [
        f"m{i},{c},{100 * (1 - 10 ** (0.8 - 0.08 * np.log10(c) + 0.02 * (-1) ** i))},{2010 + i % 7}"
        for i, c in enumerate(compute)
    ]
    (in_folder / "t.csv").write_text("\n".join(["model,flop,top1,year", *rows, "blank,,70,2015"]) + "\n")
    return in_folder


def test_fit_says_the_law_its_errors_and_what_was_left_out(table):
    done = efflab("frontier", "fit", "t.csv", "--compute", "flop", "--score", "top1", "--at", "1e22", cwd=table)
    assert done.returncode == 0, done.stderr
    assert "t.csv: 24 of 25 rows (left out: 1 with no number in flop)" in done.stdout
    assert "power 12." in done.stdout
    assert "for one more model, extrapolated" in done.stdout


def test_fit_as_json_with_years(table):
    words = ["--compute", "flop", "--score", "top1", "--year", "year", "--format", "json", "--draws", "200"]
    done = efflab("frontier", "fit", "t.csv", *words, cwd=table)
    facts = json.loads(done.stdout)
    assert facts["b"] == pytest.approx(-0.08, abs=0.01)
    assert facts["b_interval"][0] <= facts["b"] <= facts["b_interval"][1]
    assert abs(facts["progress_dex_per_year"]) < 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["t.csv", "--compute", "flops", "--score", "top1"], "no column 'flops'; did you mean 'flop'"),
        (["t.csv", "--compute", "flop", "--error", "top1"], "give --score instead of --error"),
        (["t.csv", "--compute", "flop", "--score", "top1", "--quantile", "2"], "between 0 and 1"),
        (["t.csv", "--compute", "flop", "--score", "top1", "--draws", "1"], "--draws"),
        (["t.csv", "--compute", "flop", "--score", "top1", "--floor", "--year", "year"], "leave out --year"),
        (["t.csv", "--compute", "flop", "--score", "top1", "--at", "inf"], "--at takes finite compute"),
        ([" ", "--compute", "flop", "--score", "top1"], "the file's name is empty"),
        ([".", "--compute", "flop", "--score", "top1"], "not a readable CSV file (is a directory)"),
        (["/dev/zero", "--compute", "flop", "--score", "top1"], "no regular file, but a device"),
        (["none.csv", "--compute", "flop", "--score", "top1"], "there is no such file"),
    ],
)
def test_wrong_requests(table, words, said):
    done = efflab("frontier", "fit", *words, cwd=table)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_that_is_too_long_is_refused(tmp_path):
    (tmp_path / "long.csv").write_text("flop,top1\n" + "1,0.5\n" * 2_700_000)
    done = efflab("frontier", "fit", "long.csv", "--compute", "flop", "--score", "top1", cwd=tmp_path)
    assert done.returncode == 2
    assert "longer than 16,000,000 characters" in done.stderr
    assert "Traceback" not in done.stderr


def test_records_are_listed_shown_and_fitted(in_folder):
    assert "imagenet" in efflab("frontier", "ls", cwd=in_folder).stdout
    shown = efflab("frontier", "show", "coco", cwd=in_folder).stdout
    assert "torchvision weights metadata" in shown
    assert "left out: YOLOv3" in shown
    fitted = efflab("frontier", "fit", "cifar10", "--compute", "macs", "--error", "error", cwd=in_folder)
    assert "cifar10.csv: 11 of 11 rows" in fitted.stdout
    wrong = efflab("frontier", "show", "cocoo", cwd=in_folder)
    assert (wrong.returncode, "did you mean 'coco'" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("rows", "more", "code", "words"),
    [
        ("1,0.5 0,0.4 10,0.3", (), 2, "p.csv:3: c must be above 0 (found 0)"),
        ("1,0.5 -3,0.4 10,0.3", (), 2, "p.csv:3: c must be above 0 (found -3)"),
        ("1,0.5 3,0 10,0.3", (), 2, "p.csv:3: e gives an error of 0"),
        ("1,0.5 3,1 10,0.3", (), 2, "p.csv:3: e gives an error of 1"),
        ("1,0.5", (), 2, "p.csv: a fit of 2 coefficients needs at least 4 points (found 1)"),
        ("2,0.5 2,0.5 2,0.5 2,0.5", (), 2, "all points have the same compute"),
        ("nan,0.6 1,0.5 10,0.4 100,0.3 1000,0.2", (), 0, "left out: 1 with no number in c"),
        ("1,0.5 10,0.4 100,0.3 1000,0.2", (), 0, "few points (n = 4)"),
        ("1,0.5 1,0.5 10,0.3 10,0.3 100,0.2 100,0.2", (), 0, "3 points stand more than once"),
        ("1,0.5 10,0.5 100,0.5 1000,0.5 2000,0.5", (), 0, "the slope is not significant"),
        ("1,0.5 10,0.4 100,0.3 1000,0.2", ("--cluster", "g"), 2, "all points are of one cluster in 'g'"),
    ],
)
def test_points_that_carry_no_fit_are_refused_or_flagged(tmp_path, rows, more, code, words):
    lines = "\n".join(f"{row},same" for row in rows.split())
    (tmp_path / "p.csv").write_text(f"c,e,g\n{lines}\n")
    done = efflab("frontier", "fit", "p.csv", "--compute", "c", "--error", "e", *more, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "power" not in done.stdout or "significant" not in done.stdout


def test_few_draws_that_carry_a_fit_give_no_interval(tmp_path):
    (tmp_path / "p.csv").write_text("c,e\n1,0.5\n10,.4\n100,0.3\n1000,.2\n")
    words = ("frontier", "fit", "p.csv", "--compute", "c", "--error", "e", "--pareto", "--draws", "200")
    done = efflab(*words, cwd=tmp_path)
    assert "no interval by bootstrap over points, " in done.stdout
    assert " of 200 draws carried a fit" in done.stdout
    facts = json.loads(efflab(*words, "--format", "json", cwd=tmp_path).stdout)
    assert (facts["b_interval"], facts["significant"]) == (None, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "p.csv: the file is empty"),
        ('c,e\n1,"0.5\n', "p.csv: not a readable CSV file (unexpected end of data)"),
        ("c,e,c\n1,0.5,2\n", "p.csv: the header names 'c' more than once"),
        ("c,e\n1,0.5\n2,0.4,9\n", "p.csv:3: more cells than the header's 2"),
        ("c,e\n1,0.5\n\xff\n", "p.csv"),
    ],
)
def test_tables_that_are_none(tmp_path, text, said):
    (tmp_path / "p.csv").write_bytes(text.encode("latin-1"))
    done = efflab("frontier", "fit", "p.csv", "--compute", "c", "--error", "e", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("efflab: ") == 1
    assert said in done.stderr


MACS, ERRORS = [1.5, 3.0, 6.2, 12.5, 25.0, 51.0], ["0.98", "0.79", "0.62", "0.5", "0.41", "0.32"]


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("m;gmacs;error", lambda m, e: f"x;{m};{e}%".replace(".", ","), ()),
        ("m,gmacs,error (%)", lambda m, e: f"x,{m} G,{e}", ("--error", "error (%)")),
        ("m\tgmacs\terror", lambda m, e: f"x\t{m}\t{e} %", ()),
        ("m,gmacs,error", lambda m, e: f'x,"{m:.3f}",{e}%'.replace(".", ",", 1), ("--decimal", "comma")),
    ],
)
def test_notations_of_people_give_the_law_of_plain_numbers(tmp_path, header, row, words):
    plain = [f"x,{m},{float(e) / 100:.4f}" for m, e in zip(MACS, ERRORS, strict=True)]
    (tmp_path / "plain.csv").write_text("\n".join(["m,gmacs,error", *plain]))
    rows = [row(m, e) for m, e in zip(MACS, ERRORS, strict=True)]
    (tmp_path / "people.csv").write_text("\n".join([header, *rows]))
    fit = ("frontier", "fit", "--compute", "gmacs", "--draws", "100", "--format", "json")
    right = json.loads(efflab(*fit, "plain.csv", "--error", "error", cwd=tmp_path).stdout)
    done = efflab(*fit, "people.csv", *(words if "--error" in words else ("--error", "error", *words)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("notes")
    assert right.pop("notes") == []
    assert found | {"file": ""} == right | {"file": ""}


def test_a_table_that_can_mean_two_laws_is_refused_with_one_line_a_problem(tmp_path):
    rows = [
        f'"{m:,.0f}",{e}{"%" if i else ""}' for i, (m, e) in enumerate(zip([1500, 3000, 6200], ERRORS, strict=False))
    ]
    (tmp_path / "p.csv").write_text("\n".join(["c,e", *rows]))
    done = efflab("frontier", "fit", "p.csv", "--compute", "c", "--error", "e", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("efflab: ")) == (2, "", 2)
    assert "p.csv:2: c is '1,500', which can mean 1500 or 1.500; write the one that is meant" in done.stderr
    assert "p.csv:3: e is '0.79%', but '0.98' in line 2: only one has a percent sign" in done.stderr
