from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from efflab.foundation.errors import RequestError, Unavailable
from efflab.model_surgery.graphs.graph_check import check_graph
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.quality import parity
from efflab.techniques.cast import cast
from efflab.techniques.export_onnx import export_onnx
from efflab.techniques.quantize_dynamic import quantize_dynamic
from efflab.techniques.quantize_static import quantize_static

INPUTS = np.random.default_rng(0).standard_normal((64, 1, 24, 24)).astype(np.float32)
BATCHES = [(INPUTS[:32],), (INPUTS[32:],)]


def fresh_module() -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = resnet_cifar(8, 1, 1)
    module(torch.from_numpy(INPUTS))
    return module.eval()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(fresh_module(), path, torch.from_numpy(INPUTS[:2]))
    return path


def run(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    result: np.ndarray = session.run(None, {value.name: inputs})[0]
    return result


def operators(path: Path) -> Counter:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def sqnr_db(path: Path, graph: Path) -> float:
    value = parity(run(path, INPUTS), run(graph, INPUTS))["sqnr_db"]
    assert value is not None
    return value


def test_export_folds_batch_norms_into_one_file_with_a_free_batch(graph):
    assert [path.name for path in graph.parent.iterdir()] == ["model.onnx"]
    assert operators(graph)["BatchNormalization"] == 0
    assert operators(graph)["Conv"] == 9
    assert onnx.load(str(graph)).graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert onnx.load(str(graph)).opset_import[0].version == 20
    with torch.no_grad():
        expected = fresh_module()(torch.from_numpy(INPUTS)).numpy()
    np.testing.assert_allclose(run(graph, INPUTS), expected, rtol=1e-3, atol=1e-4)


def test_export_prints_nothing(capfd, tmp_path):
    export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(576, 2)), tmp_path / "m.onnx", torch.from_numpy(INPUTS[:2]))
    assert capfd.readouterr() == ("", "")


def test_batch_norms_of_every_kind_of_layer_are_folded(tmp_path):
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 3), nn.BatchNorm2d(3)]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 576, 5), nn.BatchNorm1d(5))
    module(torch.from_numpy(INPUTS))
    export_onnx(module.eval(), tmp_path / "m.onnx", torch.from_numpy(INPUTS[:2]))
    assert operators(tmp_path / "m.onnx")["BatchNormalization"] == 0


def test_exported_programs_can_be_exported(tmp_path):
    batch = torch.export.Dim("batch")
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 484, 3)).eval()
    program = torch.export.export(module, (torch.from_numpy(INPUTS[:2]),), dynamic_shapes=({0: batch},))
    graph_module = program.module()
    graph_module.eval = graph_module.train = lambda *_: graph_module
    export_onnx(graph_module, tmp_path / "m.onnx", torch.from_numpy(INPUTS[:2]))
    with torch.no_grad():
        np.testing.assert_allclose(
            run(tmp_path / "m.onnx", INPUTS), module(torch.from_numpy(INPUTS)).numpy(), rtol=1e-3, atol=1e-4
        )
    assert operators(tmp_path / "m.onnx")["BatchNormalization"] == 0


def test_16_bit_models_take_and_give_float32_or_are_refused(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(576, 2))
    half = cast(copy.deepcopy(module), "float16")
    export_onnx(half, tmp_path / "m.onnx", torch.from_numpy(INPUTS[:2]))
    assert run(tmp_path / "m.onnx", INPUTS).dtype == np.float32
    assert onnx.load(str(tmp_path / "m.onnx")).graph.initializer[0].data_type in (7, onnx.TensorProto.FLOAT16)
    with pytest.raises(Unavailable, match="no bfloat16 graphs"):
        export_onnx(cast(module, "bfloat16"), tmp_path / "n.onnx", torch.from_numpy(INPUTS[:2]))


def test_a_graph_that_differs_from_the_module_is_an_error(graph):
    torch.manual_seed(1)
    with pytest.raises(RuntimeError, match="differs from the module"):
        check_graph(resnet_cifar(8, 1, 1).eval(), graph, (torch.from_numpy(INPUTS[:2]),), 1e-3)


def test_a_module_that_cannot_be_exported_is_refused_in_one_sentence(tmp_path):
    class Chooses(nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(RequestError, match="cannot be exported") as caught:
        export_onnx(Chooses(), tmp_path / "m.onnx", torch.from_numpy(INPUTS[:2]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"calibrator": "entropy"},
        {"calibrator": "percentile"},
        {"per_channel": False},
        {"symmetric": True},
        {"engine": "nncf"},
        {"engine": "nncf", "calibrator": "percentile", "per_channel": False, "symmetric": True},
    ],
)
def test_int8_graphs_answer_nearly_as_the_float_one(settings, graph, tmp_path, capfd):
    if settings.get("engine") == "nncf":
        pytest.importorskip("nncf")
        capfd.readouterr()
    out = tmp_path / "q.onnx"
    quantize_static(graph, out, BATCHES, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert sqnr_db(out, graph) > 18
    assert operators(out)["BatchNormalization"] == 0
    assert operators(out)["QuantizeLinear"] >= 9
    initializers = {tensor.name: tensor for tensor in onnx.load(str(out)).graph.initializer}
    assert sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in initializers.values()) >= 10
    scales = [onnx.numpy_helper.to_array(tensor).size for name, tensor in initializers.items() if "scale" in name]
    assert (max(scales) == 32) == settings.get("per_channel", True)
    assert capfd.readouterr() == ("", "")


def test_quantising_in_place(graph, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.read_bytes())
    quantize_static(path, path, iter(BATCHES))
    assert operators(path)["QuantizeLinear"] > 0


def test_ranges_come_from_the_calibration_batches(graph, tmp_path):
    quantize_static(graph, tmp_path / "wide.onnx", [(100 * INPUTS[:32],)])
    quantize_static(graph, tmp_path / "right.onnx", BATCHES)
    assert sqnr_db(tmp_path / "wide.onnx", graph) < sqnr_db(tmp_path / "right.onnx", graph) - 10


def test_dynamic_quantisation_runs_and_answers_nearly_the_same(graph, tmp_path):
    quantize_dynamic(graph, tmp_path / "q.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert operators(tmp_path / "q.onnx")["ConvInteger"] == 9
    assert sqnr_db(tmp_path / "q.onnx", graph) > 18


@pytest.fixture
def no_weights(tmp_path):
    path = tmp_path / "relu.onnx"
    export_onnx(nn.ReLU(), path, torch.from_numpy(INPUTS[:2]))
    return path


def test_a_graph_without_anything_to_quantise_is_refused(no_weights):
    with pytest.raises(RequestError, match="nothing that can be quantised"):
        quantize_static(no_weights, no_weights.with_name("q.onnx"), BATCHES)
    with pytest.raises(RequestError, match="nothing that can be quantised"):
        quantize_dynamic(no_weights, no_weights.with_name("q.onnx"))
    assert [path.name for path in no_weights.parent.iterdir()] == ["relu.onnx"]


@pytest.mark.parametrize("again", [quantize_dynamic, lambda one, other: quantize_static(one, other, BATCHES)])
def test_a_quantised_graph_is_not_quantised_again(graph, tmp_path, again):
    for name, quantized in (("s", lambda path: quantize_static(graph, path, BATCHES)), ("d", None)):
        path = tmp_path / f"{name}.onnx"
        quantized(path) if quantized else quantize_dynamic(graph, path)
        with pytest.raises(RequestError, match="quantised already"):
            again(path, tmp_path / "q.onnx")


def test_a_missing_engine_gives_its_install_line(graph, tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r'pip install "efflab\[nncf\]"'):
        quantize_static(graph, tmp_path / "q.onnx", BATCHES, engine="nncf")


def test_nncf_reports_nothing_to_anybody():
    program = (
        "from efflab.techniques.quantize_static import _import_nncf; _import_nncf();"
        "import nncf.telemetry.wrapper as w; print(type(w.telemetry).__name__)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "NNCF_CI")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split()[-1] != "NNCFTelemetry"


def test_dataclasses_and_names_among_the_outputs_are_left_out_of_the_graph(tmp_path):
    from dataclasses import dataclass

    @dataclass
    class Out:
        loss: None
        logits: torch.Tensor
        name: str

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(576, 2)

        def forward(self, x):
            return Out(None, self.last(x.flatten(1)), "net")

    net = Net().eval()
    export_onnx(net, tmp_path / "m.onnx", torch.from_numpy(INPUTS[:2]))
    right = net(torch.from_numpy(INPUTS)).logits.detach().numpy()
    np.testing.assert_allclose(run(tmp_path / "m.onnx", INPUTS), right, rtol=1e-4, atol=1e-5)
