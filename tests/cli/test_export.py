"""efflab export: packages of a real tiny study run where efflab cannot be imported, and wrong requests are told plainly."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from studies import example_study
from worlds import efflab, make_card, make_recipe

from efflab.artefacts.user_models import build_foreign
from efflab.cli.main import main
from efflab.foundation.files import file_digest
from efflab.records.study import save_study

VARIANTS = """
half: [{prune_channels: {ratio: 0.5, round_to: 1}}]
b16: [{cast: {dtype: bfloat16}}]
f16: [{cast: {dtype: float16}}]
graph: {from: half, steps: [{export_onnx: {}}]}
int8: [{export_onnx: {}}, {quantize_static: {calibration_examples: 32}}]
"""
MEASURE = (
    "seeds: [0, 1], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false"
)
# refuses every import of efflab, as where it is not installed
BLOCKER = """
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "efflab":
            raise ImportError("efflab is not installed here")

sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
REPORT = Path(__file__).parents[2] / "reports" / "digits"
pytestmark = pytest.mark.xdist_group("export")  # one process, so that the world is made once


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    make_card(folder)
    make_recipe(folder, VARIANTS, measure=MEASURE, backends="[torch, onnxruntime]")
    done = efflab("run", "r.yaml", cwd=folder, EFFLAB_STORE="")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def here(world, monkeypatch):
    """The working directory of the study; packages go beside it."""
    monkeypatch.chdir(world)
    monkeypatch.delenv("EFFLAB_STORE", raising=False)
    return world


def export(capsys, *words):
    code = main(["export", *map(str, words)])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return code, told.out, told.err


def bare(package, *words, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", BLOCKER, str(package / "run.py"), *map(str, words)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def about(package):
    return json.loads((package / "provenance.json").read_text())


def files(package):
    return {path.name: file_digest(path) for path in package.iterdir()}


@pytest.mark.parametrize(
    ("variant", "words", "model", "numbers"),
    [
        ("half", [], "model.pt2", "float32"),
        ("half", ["--onnx"], "model.onnx", "float32"),
        ("tiny", ["--backend", "onnxruntime"], "model.onnx", "float32"),
        ("b16", [], "model.pt2", "bfloat16"),
        ("f16", [], "model.pt2", "float16"),
        ("f16", ["--onnx"], "model.onnx", "float16"),
        ("graph", [], "model.onnx", "float32"),
        ("int8", [], "model.onnx", "int8"),
    ],
)
def test_a_package_gives_the_same_outputs_without_efflab(here, tmp_path, capsys, variant, words, model, numbers):
    package = tmp_path / "package"
    code, told, error = export(capsys, "r", variant, *words, "--out", package)
    assert code == 0, error
    assert f"{variant}, seed 0, as {model} ({numbers})" in told
    assert {path.name for path in package.iterdir()} == {model, "example.npz", "run.py", "provenance.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
    (tmp_path / "elsewhere").mkdir()
    moved = package.rename(tmp_path / "elsewhere" / "moved")
    done = bare(moved, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("same outputs: largest difference ")
    # batches of other sizes than the example's: 256, and the one that is left
    np.save(tmp_path / "mine.npy", np.zeros((257, 1, 24, 24), np.float32))
    done = bare(moved, "mine.npy", "out.npy", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = np.load(tmp_path / "out.npy")
    assert outputs.shape == (257, 10)
    assert outputs.dtype == np.float32


def test_the_provenance_says_what_the_study_says(here, tmp_path, capsys):
    package = tmp_path / "package"
    assert export(capsys, "r", "half", "--seed", "0", "--out", package)[0] == 0
    told = about(package)
    (step,) = told["steps"]
    assert step["prune_channels"]["ratio"] == 0.5
    assert (told["study"], told["variant"], told["baseline"], told["seed"]) == ("r", "half", "tiny", 0)
    assert (told["task"]["name"], told["metric"]) == ("digits_clutter", "accuracy")
    assert "0.261" in told["inputs_are"]
    assert told["inputs"] == [{"name": "x", "shape": ["batch", 1, 24, 24], "dtype": "float32"}]
    assert told["example"]["split"] == "validation"
    rows = json.loads(efflab("compare", "r", "--format", "json", "--columns", "all", cwd=here).stdout)
    rows = {row["backend"]: row for row in rows if row["variant"] == "half"}
    for measured in told["measured"]:
        row = rows[measured["backend"]]
        assert measured["quality"] == pytest.approx(row["quality"])
        assert measured["quality_low"] <= measured["quality"] <= measured["quality_high"]
        assert measured["speedup"] == pytest.approx(row["speedup"])
    assert {one["backend"]: one["this_artefact"] for one in told["measured"]} == {"torch": True, "onnxruntime": False}
    assert told["work"]["macs"] == rows["torch"]["macs"]
    assert set(told["quality_of_this_seed"]) == {"torch", "onnxruntime"}
    assert {"torch", "onnx", "onnxruntime", "efflab"} <= set(told["versions"])
    digests = files(package)
    assert {name: known["sha256"] for name, known in told["files"].items()} == {
        name: digest for name, digest in digests.items() if name != "provenance.json"
    }


def test_the_example_is_of_the_validation_split_and_of_the_stored_model(here, tmp_path, capsys):
    from efflab.artefacts.artefact import Artefact
    from efflab.packaging.package import reference_outputs
    from efflab.tasks.digits_clutter import DigitsClutter

    package = tmp_path / "package"
    assert export(capsys, "r", "int8", "--out", package)[0] == 0
    with np.load(package / "example.npz") as file:
        inputs, outputs = file["input_0"], file["output_0"]
    task = DigitsClutter(train=512, validation=64, test=200)
    assert np.array_equal(inputs, task.split("validation").inputs[0][:8])
    artefact = Artefact.open(here / ".efflab" / "stages" / about(package)["stage"])
    assert np.array_equal(outputs, reference_outputs(artefact, (inputs,))[0])


def test_the_same_export_twice_is_the_same_to_the_bit(here, tmp_path, capsys):
    assert export(capsys, "r", "half", "--out", tmp_path / "one")[0] == 0
    done = efflab("export", "r", "half", "--out", str(tmp_path / "two"), cwd=here, EFFLAB_STORE="")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_program_holds_nothing_pickled_and_nothing_of_this_machine(here, tmp_path, capsys):
    import zipfile

    package = tmp_path / "package"
    assert export(capsys, "r", "half", "--out", package)[0] == 0
    path = package / "model.pt2"
    build_foreign({"torch_export": str(path), "sha256": file_digest(path)})  # refuses pickled objects
    with zipfile.ZipFile(path) as archive:
        samples = [name for name in archive.namelist() if "sample_inputs" in name]
        assert all(archive.read(name) == b"" for name in samples)
        assert not any(
            os.path.dirname(os.path.dirname(__file__)).encode() in archive.read(n) for n in archive.namelist()
        )
        assert not any(b"resnet_cifar.py" in archive.read(name) for name in archive.namelist())


def test_other_seeds_are_other_models(here, tmp_path, capsys):
    for seed in (0, 1):
        assert export(capsys, "r.yaml", "graph", "--seed", seed, "--out", tmp_path / str(seed))[0] == 0
    assert files(tmp_path / "0")["model.onnx"] != files(tmp_path / "1")["model.onnx"]
    assert about(tmp_path / "1")["seed"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["r", "hlaf"], "no variant 'hlaf'; did you mean 'half'? known: b16, f16, graph, half, int8, tiny"),
        (["s", "half"], "no study named 's'"),
        (["r", "half", "--backend", "torhc"], "did you mean 'torch'?"),
        (["r", "half", "--seed", "7"], "not measured with seed 7; the study has 0, 1"),
        (["r", "b16", "--onnx"], "ONNX runtimes take no bfloat16 graphs"),
        (["r", "half", "--onnx", "--backend", "torch"], "no ONNX graph of half was measured on torch"),
        (["r", "int8", "--backend", "torch"], "int8 has nothing to export: unavailable on torch"),
        (["r", "half", "--out", "r.yaml"], "r.yaml is a file"),
        (["r", "half", "--out", "."], "--out must name a folder"),
        (["r", "half", "--out", ""], "--out must name a folder"),
        (["r", "half", "--out", "baselines"], "baselines holds other files"),
        ([str(REPORT), "prune50"], "does not hold the model of prune50 (seed 0); `efflab run RECIPE --only prune50`"),
    ],
)
def test_wrong_requests_are_one_line(here, capsys, words, said):
    before = sorted(here.iterdir())
    code, _, error = export(capsys, *words)
    assert code == 2
    assert said in error
    assert error.count("efflab: ") == 1
    assert sorted(path for path in here.iterdir() if path.name != "exports") == before


def test_a_study_without_stored_models_says_so(in_folder, capsys):
    save_study(example_study(), in_folder / "study.json")
    code, _, error = export(capsys, "study.json", "int8")
    assert (code, error.count("\n")) == (2, 1)
    assert "int8 has nothing to export: unavailable on openvino" in error
    assert "the study names no stored model of it" in export(capsys, "study.json", "bf16")[2]


def test_a_committed_report_names_the_command_that_makes_the_model_again(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(REPORT.parents[1])
    monkeypatch.setenv("EFFLAB_STORE", str(tmp_path))
    code, _, error = export(capsys, "reports/digits", "prune50~random", "--out", tmp_path / "p")
    assert code == 2
    assert "`efflab run recipes/digits.yaml --only 'prune50~random'` makes it" in error
    assert "`efflab export digits 'prune50~random'` packages it" in error


def test_only_an_earlier_export_is_replaced_and_only_when_asked(here, tmp_path, capsys):
    package = tmp_path / "package"
    package.mkdir()
    assert export(capsys, "r", "graph", "--out", package)[0] == 0  # an empty folder is taken
    first = files(package)
    code, _, error = export(capsys, "r", "int8", "--out", package)
    assert code == 2
    assert "holds an earlier export; --force replaces it" in error
    (package / "notes.txt").write_text("mine")
    code, _, error = export(capsys, "r", "int8", "--out", package, "--force")
    assert code == 2
    assert "notes.txt beside an earlier export" in error
    assert {name: digest for name, digest in files(package).items() if name != "notes.txt"} == first
    (package / "notes.txt").unlink()
    assert export(capsys, "r", "int8", "--out", package, "--force")[0] == 0
    assert about(package)["variant"] == "int8"
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_a_damaged_artefact_is_not_packaged(world, tmp_path, monkeypatch, capsys):
    shutil.copytree(world, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.delenv("EFFLAB_STORE", raising=False)
    assert export(capsys, "r", "graph", "--out", "good")[0] == 0
    graph = Path(".efflab") / "stages" / about(Path("good"))["stage"] / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    code, _, error = export(capsys, "r", "graph", "--out", "bad")
    assert code == 2
    assert "is damaged" in error
    assert "`efflab run r.yaml --only graph`" in error
    assert not Path("bad").exists()
    # the command that is named mends it
    assert efflab("run", "r.yaml", "--only", "graph", cwd=Path.cwd(), EFFLAB_STORE="").returncode == 0
    assert export(capsys, "r", "graph", "--out", "bad")[0] == 0


def test_a_study_is_found_with_its_own_store_from_anywhere(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EFFLAB_STORE", raising=False)
    code, told, error = export(capsys, world / ".efflab" / "studies" / "r", "graph")
    assert code == 0, error
    assert "package: exports/r/graph" in told


@pytest.fixture(scope="module")
def package(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "int8"
    done = efflab("export", "r", "int8", "--out", str(folder), cwd=world, EFFLAB_STORE="")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 1, 20, 24), np.float32), "x has shape (2, 1, 20, 24), but the model takes (batch, 1, 24, 24)"),
        (np.zeros((1, 24, 24), np.float32), "one example needs an axis in front: array[None]"),
        (np.zeros((2, 1, 24, 24)), "x holds float64, but the model takes float32: array.astype('float32')"),
        (np.zeros((0, 1, 24, 24), np.float32), "x holds no examples"),
        (np.array([{}], dtype=object), "mine.npy cannot be read"),
    ],
)
def test_inputs_that_do_not_fit_are_told_in_plain_words(package, tmp_path, array, said):
    np.save(tmp_path / "mine.npy", array, allow_pickle=True)
    done = bare(package, "mine.npy", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_predictions_are_printed_and_inputs_may_come_by_name(package, tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.zeros((3, 1, 24, 24), np.float32))
    done = bare(package, "mine.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "float32, shape (3, 10)" in done.stdout
    np.savez(tmp_path / "mine.npz", y=np.zeros((3, 1, 24, 24), np.float32))
    done = bare(package, "mine.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "run.py: mine.npz lacks x; it holds y\n")
    assert bare(package, "nothing.npy", cwd=tmp_path).returncode == 2


def test_other_outputs_and_damaged_files_fail_the_check(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "copy")
    with np.load(copy / "example.npz") as file:
        arrays = dict(file)
    arrays["output_0"] = arrays["output_0"] + arrays["output_0"].max()
    np.savez(copy / "example.npz", **arrays)
    done = bare(copy, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "example.npz is not as it was exported: its sha256 is another\n")
    told = about(copy)
    told["files"]["example.npz"]["sha256"] = file_digest(copy / "example.npz")
    (copy / "provenance.json").write_text(json.dumps(told))
    done = bare(copy, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("other outputs: largest difference ")
