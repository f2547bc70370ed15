"""What `efflab suggest` prints from the committed studies: suggestions, what has no basis, and what the order is worth."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from studies import example_study

from efflab.cli.main import main
from efflab.recipe.recipe import load_recipe
from efflab.records.study import SCHEMA, load_study, save_study

ROOT = Path(__file__).parents[2]
SOME = [str(ROOT / "reports" / name) for name in ("digits-law", "overview", "cifar10-distillation")]
PLACE = ["--backend", "openvino", "--batch", "64"]


@pytest.fixture
def suggest(tmp_path_factory, monkeypatch, capsys):
    """Run the command on some of the committed studies; return exit code, output and what it said beside."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("EFFLAB_STORE", str(tmp_path_factory.getbasetemp() / "suggest-store"))

    def run(*words: str, records: list[str] = SOME) -> tuple[int, str, str]:
        code = main(["suggest", *words, *(word for one in records for word in ("--records", one))])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_suggestions_for_a_baseline_are_what_its_records_say(suggest, monkeypatch):
    monkeypatch.setattr("efflab.foundation.machine.machine_id", lambda _: "elsewhere")
    code, out, err = suggest("digits-resnet-w11", *PLACE, "--within", "1", "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    int8 = next(row for row in rows if row["recipe"] == "export_onnx > quantize_static(calibration_examples=256)")
    assert int8["measured"] == "False"  # the studies are of another machine than this
    assert float(int8["gain_low"]) < 1.92 < float(int8["gain_high"])  # what reports/overview says
    assert all(float(row["points"]) >= -1 for row in rows)
    total = sum(len(load_study(Path(one) / "study.json")["records"]) for one in SOME)
    assert f"{total} records of 3 studies" in err
    assert "are of other machines: AMD EPYC (f875c1307f49)" in err


def test_json_and_tables_hold_the_same(suggest):
    _, out, _ = suggest("digits-resnet-w11", *PLACE, "--top", "3", "--format", "json")
    rows = json.loads(out)
    assert [row["rank"] for row in rows] == [1, 2, 3]
    _, out, _ = suggest("digits-resnet-w11", *PLACE, "--top", "3")
    assert "expected M, time [90 %]" in out
    assert all(row["recipe"] in out for row in rows)
    assert "come after these (--top)" in out
    _, out, _ = suggest("digits-resnet-w11", *PLACE, "--goal", "speedup", "--format", "github")
    assert "expected speed-up [90 %]" in out


def test_what_is_left_out_is_named_and_the_rank_explained(suggest, monkeypatch):
    monkeypatch.setattr("efflab.foundation.machine.machine_id", lambda _: "elsewhere")
    _, out, _ = suggest("digits-resnet-w11", "--backend", "openvino", "--batch", "7", "--within", "1")
    assert "chance to lose at most 1 point " in out
    assert "the rank is the order in which to try: each next recipe is the likeliest to be near the best gain" in out
    assert "no record at batch 7 on openvino has time; nearest 1 and 64" in out
    assert "2 recipes left out (it cannot run on openvino): cast; add_exits(" in out
    assert "4 recipes left out (its teacher is of another task): distill(teacher=cifar10-resnet20-w16" in out
    assert " and 2 more\n" in out


def test_a_transformer_is_not_advised_what_undoes_its_training_or_what_no_record_tells_of(suggest):
    records = [str(ROOT / "reports" / name) for name in ("digits-low-rank", "digits", "cifar10-vit")]
    words = ["digits-vit-w32-d2", "--goal", "bits", "--backend", "torch", "--top", "99"]
    _, out, err = suggest(*words, "--format", "csv", records=records)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows
    assert all(int(row["records"]) for row in rows)
    assert "learning_rate" not in out
    assert "left out (its learning rate is above the 0.002 of the baseline, and would undo its training): " in err
    assert "1 recipe left out (no record has its bits): low_rank\n" in err
    _, out, _ = suggest(*words, records=records)
    assert ", none of this kind of network  " in out


def test_untried_leaves_out_what_was_measured(suggest):
    tried = [str(ROOT / "reports" / "digits")]
    _, everything, _ = suggest("digits-resnet-w11", *PLACE, "--top", "99", "--format", "json", records=tried)
    assert json.loads(everything)
    _, untried, _ = suggest("digits-resnet-w11", *PLACE, "--untried", "--top", "99", "--format", "json", records=tried)
    assert json.loads(untried) == []


def test_no_basis_is_said_in_words_and_is_no_error(suggest):
    code, out, _ = suggest("cifar10-vit-w96-d4", records=SOME)
    assert code == 0
    assert "no basis: no study of a vit has time; known kinds: resnet; nearest in error: cifar10-resnet20-w8" in out
    code, out, _ = suggest("digits-resnet-w11", "--backend", "executorch")
    assert code == 0
    assert "no basis: no study on executorch has time; known: onnxruntime, openvino, torch" in out


def test_without_any_study_there_is_no_basis(suggest, in_folder):
    code, out, _ = suggest("digits-resnet-w11", records=[])
    assert (code, out.strip().startswith("no basis: no study at hand has a variant")) == (0, True)
    code, out, _ = suggest("digits-resnet-w11", "--format", "csv", records=[])
    assert out.startswith("rank,recipe,gain")


def test_the_recipe_that_is_written_can_be_planned_and_is_not_overwritten(suggest, tmp_path):
    target = tmp_path / "top.yaml"
    code, out, _ = suggest("baselines/digits-resnet-w11.yaml", *PLACE, "--top", "2", "--yaml", str(target))
    assert code == 0
    assert f"{target} is written: efflab run" in out
    found = load_recipe(target)
    assert [one.name for one in found.variants if one.role == "variant"] == ["top1", "top2"]
    assert found.spec.measure.seeds == [0, 1, 2]
    code, _, err = suggest("digits-resnet-w11", *PLACE, "--yaml", str(target))
    assert code == 2
    assert "is there already" in err


def test_files_of_mixed_versions_are_notes(suggest, tmp_path):
    save_study({**example_study(), "schema": 9}, tmp_path / "newer" / "study.json")
    code, out, _ = suggest("digits-resnet-w11", *PLACE, records=[*SOME, str(tmp_path)])
    assert code == 0
    assert f"newer/study.json is left out: written by a newer efflab (schema 9, this one knows {SCHEMA})" in out


def test_leave_one_out_counts_trials(suggest):
    code, out, _ = suggest("--leave-one-out", "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["baseline"] for row in rows} == {f"digits-resnet-w{width}" for width in (6, 8, 11)} | {
        "cifar10-resnet20-w8"
    }
    for row in rows:
        assert math.isclose(float(row["random"]), (int(row["recipes"]) + 1) / (int(row["near_best"]) + 1))
        assert 1 <= float(row["suggest"]) <= int(row["recipes"])
    _, out, _ = suggest("--leave-one-out")
    assert "mean of 4 baselines" in out
    assert "suggest against plain search: " in out
    code, out, _ = suggest("--leave-one-out", "--goal", "memory", records=SOME[2:])
    assert (code, "no baseline has five recipes at one place with the goal memory" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits-resnet-w12"], "unknown baseline 'digits-resnet-w12'; did you mean 'digits-resnet-w1"),
        (["digits-resnet-w11", "--goal", "tim"], "unknown --goal 'tim'; did you mean 'time'?"),
        (["digits-resnet-w11", "--backend", "openvin"], "unknown backend 'openvin'; did you mean 'openvino'?"),
        (["digits-resnet-w11", "--format", "gitub"], "did you mean 'github'?"),
        (["digits-resnet-w11", "--batch", "0"], "--batch must be from 1 to 4,096"),
        (
            ["digits-resnet-w11", "--batch", "4097"],
            "--batch must be from 1 to 4,096, the most that a recipe may measure",
        ),
        (["digits-resnet-w11", "--top", "0"], "--top must be 1 or more"),
        (["digits-resnet-w11", "--backend", "openvino[precision=bf16"], "did you mean 'openvino[precision=bf16]'?"),
        (["digits-resnet-w11", "--yaml", "nowhere/top.yaml"], "there is no folder nowhere; make it first"),
        (["digits-resnet-w11", "--within", "-1"], "--within is a loss in points, 0 or more"),
        (["digits-resnet-w11", "--within", "nan"], "--within is a loss in points, 0 or more"),
        (["digits-resnet-w11", "--leave-one-out"], "name a baseline, or give --leave-one-out"),
        ([], "name a baseline, or give --leave-one-out"),
        (["digits-resnet-w11", "--records", "nowhere"], "--records nowhere is no study and no folder of studies"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(suggest, words, said):
    code, out, err = suggest(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("efflab: ") == 1


def test_what_the_order_is_worth_for_every_goal(suggest):
    code, out, err = suggest("--leave-one-out", "--goal", "all", "--format", "json")
    assert code == 0
    rows = {row["goal"]: row for row in json.loads(out)}
    assert {"time", "bits", "bytes", "macs", "speedup"} <= set(rows)
    assert 1 <= float(rows["time"]["suggest"]) <= float(rows["time"]["random"])
    assert "no baseline has five recipes at one place with the goal memory" in err


def test_no_suggestion_imports_torch(tmp_path):
    words = ["suggest", "digits-resnet-w11", "--records", *SOME[:1]]
    program = f"import sys; from efflab.cli.main import main; sys.exit(main({words!r}) or 'torch' in sys.modules)"
    environment = {**os.environ, "EFFLAB_STORE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
