"""What a package holds for models of other kinds: weights beside the graph, several inputs, outputs in a tree."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from efflab.artefacts.artefact import Artefact, write_structure
from efflab.foundation.errors import RequestError
from efflab.packaging import run
from efflab.packaging.model import TOLERANCES, external_files, write_model
from efflab.packaging.package import default_folder, reference_outputs

X = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


class Stored:
    """A stored torch module, without the store."""

    form = "module"

    def __init__(self, module):
        self.made = module.eval()

    def module(self):
        return self.made


class Two(nn.Module):
    """Takes floats and whole numbers, gives a mapping."""

    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(10, 6), nn.Linear(6, 3)

    def forward(self, x, index):
        found = self.layer(x + self.table(index))
        return {"logits": found, "best": found.argmax(dim=1)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_module_with_several_inputs_and_outputs(tmp_path, dtype):
    torch.manual_seed(0)
    index = np.arange(5)
    artefact = Stored(Two().to(dtype))
    expected = reference_outputs(artefact, (X, index))
    written = write_model(artefact, (X, index), len(expected), tmp_path)
    assert written.inputs == [
        {"name": "x", "shape": ["batch", 6], "dtype": "float32"},
        {"name": "index", "shape": ["batch"], "dtype": "int64"},
    ]
    found = run.predict(run.load_torch(tmp_path / written.files[0]), [np.tile(X, (100, 1)), np.tile(index, 100)])
    assert [array.dtype for array in found] == [np.float32, np.int64]
    for array, right in zip(found, expected, strict=True):
        assert array.shape == (500, *right.shape[1:])
        assert run.largest_difference(array[:5], right) <= TOLERANCES[written.numbers][0] * np.abs(right).max()


def test_a_module_with_a_fixed_batch_is_refused_in_words(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, 6)

    with pytest.raises(RequestError, match="free batch axis .*--onnx"):
        write_model(Stored(Fixed()), (X[:2],), 1, tmp_path)


def save_graph(folder, location):
    folder.mkdir(exist_ok=True)
    weight = numpy_helper.from_array(np.eye(6, dtype=np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, ["n", 6])], [value("y", TensorProto.FLOAT, ["n", 6])], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    write_structure(folder, "onnx")
    return Artefact.open(folder)


def test_weights_beside_a_graph_come_along(tmp_path):
    artefact = save_graph(tmp_path / "stored", "weights.bin")
    (tmp_path / "package").mkdir()
    written = write_model(artefact, (X,), 1, tmp_path / "package")
    assert written.files == ("model.onnx", "weights.bin")
    assert written.inputs == [{"name": "x", "shape": ["n", 6], "dtype": "float32"}]
    (found,) = run.load_onnx(tmp_path / "package" / "model.onnx")([X])
    assert np.array_equal(found, X)
    (tmp_path / "stored" / "weights.bin").unlink()
    with pytest.raises(RequestError, match=r"keeps weights in weights\.bin, which is not in its folder"):
        write_model(artefact, (X,), 1, tmp_path / "package")


def test_weights_outside_the_folder_are_refused(tmp_path):
    artefact = save_graph(tmp_path / "stored", "weights.bin")
    model = onnx.load(artefact.onnx, load_external_data=False)
    (tmp_path / "secret").write_text("mine")
    next(one for one in model.graph.initializer[0].external_data if one.key == "location").value = "../secret"
    with pytest.raises(RequestError, match="not in its folder"):
        external_files(model, artefact.folder)


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf], [-np.inf], np.inf),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference_knows_what_is_not_finite(found, expected, difference):
    assert run.largest_difference(np.array(found), np.array(expected)) == difference


def test_a_variants_name_makes_a_plain_folder_name():
    assert str(default_folder({"name": "s"}, "p[ratio=0.3]~random")) == "exports/s/p-ratio=0.3--random"
    assert str(default_folder({"name": "s"}, "../..")) == "exports/s/variant"
    assert str(default_folder({"name": "../../x/."}, "v")) == "exports/x/v"
    assert str(default_folder({"name": "/"}, "v")) == "exports/study/v"
