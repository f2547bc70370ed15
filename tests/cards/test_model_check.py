"""What a step made is held against what it was given, and what a model takes and gives is found by running it."""

import numpy as np
import onnx
import pytest
import torch
from onnx_models import classifier, save_graph
from torch import nn

from efflab.artefacts.artefact import Artefact, build, load_module, save_module, write_structure
from efflab.artefacts.interface import Interface
from efflab.cards.model_check import check_graph_file, look_at
from efflab.execution.stages.step_check import MOST_DB, check_step
from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_of_artefact import example_shapes
from efflab.tasks.digits_clutter import DigitsClutter

TASK = DigitsClutter(**DigitsClutter.tiny)
BUILDER = {"model": "resnet_cifar", "settings": {"width": 4, "blocks": 1, "channels": 1}}


def stored(folder, change=None):
    torch.manual_seed(0)
    module = resnet_cifar(4, 1, 1).eval()
    if change:
        with torch.no_grad():
            change(module)
    save_module(module, BUILDER, [], folder)
    return Artefact.open(folder)


def graph(folder, nodes=None, weights=None, **form):
    folder.mkdir()
    plain = classifier()
    save_graph(folder / "model.onnx", nodes or plain[0], weights or plain[1], **form)
    write_structure(folder, "onnx")
    return Artefact.open(folder)


def built(folder, source):
    """Return the builder of a net whose Python is `source`, and the net."""
    (folder / "net.py").write_text(source)
    builder = {
        "python": str(folder / "net.py"),
        "sha256": file_digest(folder / "net.py"),
        "function": "build",
        "settings": {},
    }
    return builder, build(builder).eval()


def noisy(module):
    matrix = list(module.parameters())[-2]
    matrix.add_(torch.randn_like(matrix) * 3)


def test_an_unchanged_model_is_equal_to_the_last_bit(tmp_path):
    found = check_step("cast", 20.0, stored(tmp_path / "a"), stored(tmp_path / "b"), TASK)
    assert found == {"sqnr_db": MOST_DB, "agreement": 1.0, "examples": 64, "warnings": []}


def test_a_step_that_breaks_its_promise_fails_and_one_without_is_told(tmp_path):
    parent, child = stored(tmp_path / "a"), stored(tmp_path / "b", noisy)
    with pytest.raises(RequestError, match=r"fold_norms: its outputs lie -?\d+\.\d dB .* at least 60 is wanted"):
        check_step("fold_norms", 60.0, parent, child, TASK)
    found = check_step("finetune", None, parent, child, TASK)
    assert found["sqnr_db"] < 60
    assert 0 <= found["agreement"] <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_where_there_were_numbers_fail(tmp_path, value):
    def break_it(module):
        list(module.parameters())[-1].fill_(value)

    with pytest.raises(RequestError, match="640 of 640 outputs are NaN or infinite that were numbers before"):
        check_step("finetune", None, stored(tmp_path / "a"), stored(tmp_path / "b", break_it), TASK)


def test_a_graph_that_does_not_load_fails_in_words(tmp_path):
    parent, child = graph(tmp_path / "a"), graph(tmp_path / "b")
    model = onnx.load(str(child.onnx))
    model.graph.node[0].input[1] = "nowhere"
    onnx.save(model, str(child.onnx))
    with pytest.raises(RequestError, match="quantize_static: what it made cannot be used"):
        check_step("quantize_static", 0.0, parent, child, TASK)


def test_a_module_is_looked_at_by_running_it(tmp_path):
    face = look_at(stored(tmp_path / "a"), TASK)
    assert [str(port) for port in (*face.inputs, *face.outputs)] == [
        "x float32 (?, 1, 24, 24)",
        "output float32 (?, 10)",
    ]
    assert (face.scored, face.batch) == (0, None)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_graph_of_a_fixed_batch_is_run_with_that(tmp_path, batch):
    face = look_at(graph(tmp_path / "a", batch=batch), TASK)
    assert face.batch == batch
    assert face.outputs[0].shape == (None, 10)


def test_a_module_for_one_example_only_is_found_out(tmp_path):
    builder, module = built(
        tmp_path,
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.last = nn.Linear(576, 10)\n\n    def forward(self, x):\n        return self.last(x.view(1, 576))\n\n\n"
        "def build():\n    return Net()\n",
    )
    save_module(module, builder, [], tmp_path / "a")
    assert look_at(Artefact.open(tmp_path / "a"), TASK).batch == 1


def test_a_model_that_does_not_take_the_task_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"does not run on what the task gives \(float32 2x1x24x24\)"):
        look_at(graph(tmp_path / "a", given=(1, 28, 28)), TASK)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("sides", [(10**9, 10**9), (-1, 4)])
def test_a_tensor_that_says_another_size_than_holds_it_is_refused(tmp_path, sides, beside):
    path = save_graph(tmp_path / "m.onnx", *classifier())
    if beside:
        model = onnx.load(str(path))
        onnx.save(model, str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].dims[:] = sides
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RequestError, match=rf"m\.onnx: the tensor 'w' says a size of {sides[0]} x {sides[1]}, and "):
        check_graph_file(path, TASK)


def test_a_card_s_graph_is_checked_before_it_runs(tmp_path):
    path = save_graph(tmp_path / "m.onnx", *classifier())
    face = check_graph_file(path, TASK)
    assert (face.scored, face.batch, face.inputs[0].name) == (0, None, "x")
    assert example_shapes(path, TASK) == {"x": (1, 1, 24, 24)}
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    check_graph_file(path, TASK)
    (tmp_path / "m.data").unlink()
    with pytest.raises(RequestError, match=r"keeps its weights in m\.data, which is missing beside it"):
        check_graph_file(path, TASK)
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value="../elsewhere")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RequestError, match="lies outside its folder"):
        check_graph_file(path, TASK)


def test_tied_weights_are_stored_once_and_come_back(tmp_path):
    builder, module = built(
        tmp_path,
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.b, self.c = nn.Linear(576, 64), nn.Linear(64, 64), nn.Linear(64, 64)\n"
        "        self.c.weight = self.b.weight\n        self.last = nn.Linear(64, 10)\n\n    def forward(self, x):\n"
        "        return self.last(self.c(self.b(self.a(x.flatten(1)))))\n\n\ndef build():\n    return Net()\n",
    )
    save_module(module, builder, [], tmp_path / "a")
    numbers = sum(one.numel() for one in module.parameters())
    assert (tmp_path / "a" / "weights.safetensors").stat().st_size < 4 * numbers + 2000
    again = load_module(tmp_path / "a")
    assert again.c.weight is again.b.weight
    x = torch.from_numpy(TASK.split("test").inputs[0][:4])
    torch.testing.assert_close(again(x), module(x))
    with torch.no_grad():
        module.c.weight = nn.Parameter(module.c.weight * 2)  # untied by a step
    save_module(module, builder, [], tmp_path / "b")
    again = load_module(tmp_path / "b")
    assert not torch.equal(again.c.weight, again.b.weight)
    torch.testing.assert_close(again(x), module(x))


def test_an_empty_interface_reads_as_nothing_known(tmp_path):
    assert stored(tmp_path / "a").interface == Interface()
    assert np.isfinite(MOST_DB)
