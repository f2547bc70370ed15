"""Every quantiser takes every form in which a float graph comes, and what it writes loads, runs and is near the float graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import FORMS, classifier, decibel, halved, run, save_graph

from efflab.foundation.errors import RequestError
from efflab.model_surgery.quantization.float_graph import load_float_graph, name_nodes
from efflab.techniques.quantize_dynamic import quantize_dynamic
from efflab.techniques.quantize_static import quantize_static
from efflab.techniques.quantize_weights import quantize_weights

IMAGES = np.random.default_rng(1).normal(size=(32, 1, 24, 24)).astype(np.float32)
STEPS = {
    "static": lambda source, target: quantize_static(source, target, [(IMAGES,)]),
    "nncf": lambda source, target: quantize_static(source, target, [(IMAGES,)], engine="nncf"),
    "dynamic": quantize_dynamic,
    "w8": quantize_weights,
    "w4": lambda source, target: quantize_weights(source, target, 4, 16),
}


def held(tmp_path, source, step, least):
    STEPS[step](source, tmp_path / "made.onnx")
    onnx.checker.check_model(str(tmp_path / "made.onnx"))
    assert decibel(run(tmp_path / "made.onnx", IMAGES), run(source, IMAGES)) > least
    return onnx.load(str(tmp_path / "made.onnx"))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("opset", [8, 9, 11, 12, 17])
def test_any_opset_is_quantised(tmp_path, step, opset):
    source = save_graph(tmp_path / "m.onnx", *classifier(), opset=opset)
    held(tmp_path, source, step, 15 if step == "w4" else 25)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("form", FORMS[1:])
def test_weights_stored_anywhere_are_quantised(tmp_path, step, form):
    source = save_graph(tmp_path / "m.onnx", *classifier(), opset=9, form=form)
    made = held(tmp_path, source, step, 15 if step == "w4" else 25)
    assert sum(len(one.raw_data) for one in made.graph.initializer) < 0.5 * 4 * 8210  # the large weights are integers


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("edges", [False, True])
def test_16_bit_graphs_are_quantised(tmp_path, step, edges):
    source = halved(save_graph(tmp_path / "m.onnx", *classifier()), edges)
    held(tmp_path, source, step, 15 if step == "w4" else 25)


@pytest.mark.parametrize("shape", [(1, 10), (1,), (), (32, 10)])
def test_a_bias_of_any_shape_that_gemm_takes(tmp_path, shape):
    nodes, weights = classifier()
    weights["B"] = np.random.default_rng(2).normal(0, 0.5, shape).astype(np.float32)
    held(tmp_path, save_graph(tmp_path / "m.onnx", nodes, weights), "static", 25)


def test_names_are_given_by_place_and_kept_where_they_are_of_one_node():
    nodes = [
        helper.make_node("Relu", [f"t{place}"], [f"t{place + 1}"], name)
        for place, name in enumerate(["a", "", "a", "Relu_1"])
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    name_nodes(graph)
    names = [node.name for node in graph.node]
    assert names[0] == "a"
    assert names[3] == "Relu_1"
    assert len(set(names)) == 4
    assert all(names)


def test_casts_between_floats_go_and_other_casts_stay(tmp_path):
    source = halved(save_graph(tmp_path / "m.onnx", *classifier()), edges=True)
    kinds = [node.op_type for node in load_float_graph(source).graph.node]
    assert "Cast" not in kinds
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Cast", ["i"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["z"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["y"]),
    ]
    source = save_graph(tmp_path / "n.onnx", nodes, {"W": np.ones((576, 10), np.float32)})
    model = load_float_graph(source)
    assert [node.op_type for node in model.graph.node].count("Cast") == 2
    onnx.save(model, str(tmp_path / "o.onnx"))
    np.testing.assert_array_equal(run(tmp_path / "o.onnx", IMAGES), run(source, IMAGES))


def test_an_operator_that_onnx_cannot_convert_is_refused_with_a_way_out(tmp_path):
    nodes, weights = classifier()
    nodes[1] = helper.make_node("Relu", ["c"], ["r"], domain="house")
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 24, 24])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
                              [numpy_helper.from_array(value, name) for name, value in weights.items()])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 1), helper.make_opsetid("house", 1)])
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(RequestError, match="needs opset 13, the file has 1.*export the model again with opset 13"):
        load_float_graph(tmp_path / "m.onnx")


def test_a_missing_data_file_is_named(tmp_path):
    source = save_graph(tmp_path / "m.onnx", *classifier())
    model = onnx.load(str(source))
    onnx.save(model, str(source), save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    with pytest.raises(RequestError, match=r"m\.data"):
        load_float_graph(source)
