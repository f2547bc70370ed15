"""Models that users bring: an ONNX file and a torch.export file go through the whole flow, and no file can run code."""

import json
import os
import pickle
import zipfile

import pytest
import torch
from worlds import TINY_TASK

import efflab
from efflab.artefacts.artefact import Artefact
from efflab.cards.baseline import load_baseline
from efflab.foundation.errors import RequestError
from efflab.models.resnet_cifar import resnet_cifar
from efflab.techniques.export_onnx import export_onnx

MEASURE = "seeds: [0, 1], batch_sizes: [1, 4], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false"


@pytest.fixture
def module():
    torch.manual_seed(0)
    return resnet_cifar(4, 1, 1).eval()


def write_card(folder, line):
    (folder / "baselines").mkdir(exist_ok=True)
    card = folder / "baselines" / "mine.yaml"
    card.write_text(f"name: mine\ntask: {TINY_TASK}\n{line}\n")
    return card


def write_recipe(folder, variants, backends):
    path = folder / "r.yaml"
    path.write_text(f"name: r\nbaseline: mine\nvariants: {variants}\nmeasure: {{backends: {backends}, {MEASURE}}}\n")
    return path


def save_program(module, path):
    shape = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(module, (torch.randn(2, 1, 24, 24),), dynamic_shapes=shape), str(path))


def test_an_onnx_file_is_quantized_and_measured(in_folder, module):
    write_card(in_folder, "onnx: net.onnx")
    export_onnx(module, in_folder / "baselines" / "net.onnx", torch.randn(2, 1, 24, 24))
    study = efflab.run_recipe(
        write_recipe(in_folder, "{q: [{quantize_static: {calibration_examples: 32}}]}", "[onnxruntime, torch]")
    )
    by = {(r["variant"], r["backend"]): r for r in study["records"] if r["batch_size"] == 1}
    assert by["q", "onnxruntime"]["status"] == "ok"
    ratio = by["mine", "onnxruntime"]["work"]["bit_operations"] / by["q", "onnxruntime"]["work"]["bit_operations"]
    assert 4 < ratio <= 16  # 32 x 32 against 8 x 8 bits, for what is quantised
    assert by["q", "torch"]["status"] == "unavailable"
    assert "ONNX file" in by["q", "torch"]["reason"]


def test_a_module_technique_on_an_onnx_file_is_refused_by_the_plan(in_folder, module):
    write_card(in_folder, "onnx: net.onnx")
    export_onnx(module, in_folder / "baselines" / "net.onnx", torch.randn(2, 1, 24, 24))
    said = "prune_channels takes a torch module, but the model is an ONNX file there; it needs a baseline whose card"
    with pytest.raises(RequestError, match=said):
        efflab.plan_recipe(write_recipe(in_folder, "{p: [{prune_channels: {}}]}", "[onnxruntime]"))
    steps = "{p: [{export_onnx: {}}, {quantize_static: {}}]}"
    with pytest.raises(RequestError, match="the baseline is an ONNX file already, drop export_onnx"):
        efflab.plan_recipe(write_recipe(in_folder, steps, "[onnxruntime]"))


def test_a_torch_export_file_runs_on_torch_and_exported(in_folder, module):
    write_card(in_folder, "torch_export: net.pt2")
    save_program(module, in_folder / "baselines" / "net.pt2")
    study = efflab.run_recipe(write_recipe(in_folder, "{e: [{export_onnx: {}}]}", "[torch, onnxruntime]"))
    good = {(r["variant"], r["backend"]) for r in study["records"] if r["status"] == "ok"}
    assert good == {("mine", "torch"), ("mine", "onnxruntime"), ("e", "onnxruntime")}, study["records"]
    made = next(r["stages"]["artefact"] for r in study["records"] if (r["variant"], r["backend"]) == ("mine", "torch"))
    inputs = torch.randn(3, 1, 24, 24)
    again = Artefact.open(in_folder / ".efflab" / "stages" / made).module()
    assert torch.equal(again(inputs), module(inputs))


class Evil:
    """What a hostile file would hold."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("where", ["sample_inputs", "weights"])
def test_a_torch_export_file_cannot_run_code(in_folder, module, where):
    path, mark = in_folder / "baselines" / "net.pt2", in_folder / "mark"
    card = write_card(in_folder, "torch_export: net.pt2")
    save_program(module, in_folder / "good.pt2")
    payload = pickle.dumps(Evil(str(mark)))
    with zipfile.ZipFile(in_folder / "good.pt2") as good, zipfile.ZipFile(path, "w") as evil:
        for name in good.namelist():
            content = good.read(name)
            if where == "sample_inputs" and "sample_inputs" in name:
                content = payload
            if where == "weights" and name.endswith("weights_config.json"):
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
            if where == "weights" and name.endswith("weight_0"):
                content = payload
            evil.writestr(name, content)
    with pytest.raises(RequestError, match="pickled objects|no torch.export file"):
        load_baseline(card).module(0)
    assert not mark.exists()


def test_a_torch_export_file_of_another_version_is_refused_in_pytorchs_words_and_without_a_traceback(
    in_folder, module, capfd
):
    card = write_card(in_folder, "torch_export: net.pt2")
    save_program(module, in_folder / "good.pt2")
    with (
        zipfile.ZipFile(in_folder / "good.pt2") as good,
        zipfile.ZipFile(in_folder / "baselines" / "net.pt2", "w") as newer,
    ):
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("models/model.json"):
                content = json.dumps(json.loads(content) | {"schema_version": {"major": 999, "minor": 1}}).encode()
            newer.writestr(name, content)
    with pytest.raises(RequestError, match=r"net.pt2 is no torch.export file \(.*major=999.* does not match"):
        load_baseline(card).module(0)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "def build(width):\n    return 1 / 0\n",
            r"mine.yaml:3: python: .*cannot be built: .*ZeroDivisionError: division by zero",
        ),
        (
            "def build(width):\n    return 5\n",
            "mine.yaml:3: python: build gives an int, but a torch.nn.Module is wanted",
        ),
        ("def build(width):\n    pass\n", "mine.yaml:3: python: build gives nothing, but"),
        ("def build(width):\n    raise ValueError('a\\nb')\n", "ValueError: a b$"),
        ("import nothing_like_this\n", "fails on import"),
        ("x = 1\n", "no function 'build'"),
        (None, "is missing"),
    ],
)
def test_a_python_file_that_does_not_build_is_said_so(in_folder, source, said):
    card = write_card(in_folder, "python: {file: net.py, function: build, settings: {width: 3}}")
    if source is not None:
        (in_folder / "baselines" / "net.py").write_text(source)
    with pytest.raises(RequestError, match=said):
        load_baseline(card).module(0)
