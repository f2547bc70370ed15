"""What a quantised range cannot stand for stays in float, and scales run along the outputs and leave room for biases."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import decibel, run, save_graph
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import TensorsData

from efflab.foundation.errors import RequestError
from efflab.model_surgery.quantization.int8_weights import (
    clip_bounds,
    clips_that_matter,
    four_bit_weights,
    ranges_behind_clips,
    unbounded_nodes,
)
from efflab.model_surgery.quantization.qdq import feeds, layers, prepare, tensor_ranges, write_qdq
from efflab.techniques.quantize_dynamic import quantize_dynamic
from efflab.techniques.quantize_static import quantize_static
from efflab.techniques.quantize_weights import quantize_weights

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(64, 1, 24, 24)).astype(np.float32)


def clipped(low, high, opset=17):
    """Return nodes and weights of a net that divides by what a Clip lets through."""
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.normal(0, 0.3, (8, 1, 5, 5)).astype(np.float32),
        "b": np.zeros(8, np.float32),
        "W": rng.normal(0, 0.05, (800, 10)).astype(np.float32),
        "one": np.float32(1.0),
    }
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2])]
    if opset < 11:
        nodes += [helper.make_node("Clip", ["c"], ["k"], min=low, max=high)]
    else:
        weights |= {"low": np.float32(low), "high": np.float32(high)}
        nodes += [helper.make_node("Clip", ["c", "low", "high"], ["k"])]
    nodes += [
        helper.make_node("Div", ["one", "k"], ["d"]),
        helper.make_node("Flatten", ["d"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["y"]),
    ]
    return nodes, weights


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize(("low", "high"), [(0.4, 4.0), (-3.0, -0.5)])
@pytest.mark.parametrize("settings", [{}, {"symmetric": True}, {"engine": "nncf"}, {"per_channel": False}])
def test_a_clip_away_from_zero_keeps_its_bounds(tmp_path, opset, low, high, settings):
    source = save_graph(tmp_path / "m.onnx", *clipped(low, high, opset), opset=opset)
    quantize_static(source, tmp_path / "q.onnx", [(IMAGES,)], **settings)
    assert decibel(run(tmp_path / "q.onnx", IMAGES), run(source, IMAGES)) > 15


def test_bounds_are_read_from_attributes_and_tensors_and_computed_ones_matter():
    stored = {
        "zero": onnx.numpy_helper.from_array(np.float32(0), "zero"),
        "six": onnx.numpy_helper.from_array(np.float32(6), "six"),
    }
    clips = {
        (0.0, 6.0): helper.make_node("Clip", ["x", "zero", "six"], ["y"], "relu6"),
        (0.4, np.inf): helper.make_node("Clip", ["x"], ["y"], "floor", min=0.4),
        (-np.inf, 6.0): helper.make_node("Clip", ["x", "", "six"], ["y"], "roof"),
        None: helper.make_node("Clip", ["x", "made"], ["y"], "computed"),
    }
    for bounds, node in clips.items():
        found = clip_bounds(node, stored)
        assert found == (None if bounds is None else pytest.approx(bounds))
    graph = helper.make_graph(list(clips.values()), "g", [], [], list(stored.values()))
    assert clips_that_matter(graph) == ["floor", "computed"]


def ranges(**ends):
    kept = {name: tuple(np.array(end, np.float32) for end in pair) for name, pair in ends.items()}
    return TensorsData(CalibrationMethod.MinMax, kept)


def test_the_steps_of_a_range_behind_a_clip_are_spent_where_it_lets_through():
    nodes = [helper.make_node("Clip", ["c"], ["k"], "floor", min=0.4), helper.make_node("Relu", ["k"], ["y"], "relu")]
    graph = helper.make_graph(nodes, "g", [], [])
    wide = ranges(c=(-9, 4), k=(0.4, 4))
    narrowed = ranges_behind_clips(graph, wide)
    assert [float(end) for end in narrowed["c"].range_value] == pytest.approx([0.4, 4])
    assert float(wide["c"].range_value[0]) == -9  # the given ones are not touched


def test_nodes_beside_infinite_outputs_stay_in_float(tmp_path):
    nodes = [
        helper.make_node("Add", ["a", "b"], ["s"], "add"),
        helper.make_node("Concat", ["s", "off"], ["y"], "cat", axis=1),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    assert unbounded_nodes(graph, ranges(s=(-1, 1), y=(-np.inf, 1))) == ["cat"]
    weights = {"W": RNG.normal(0, 0.1, (576, 8)).astype(np.float32), "off": np.full((64, 2), -np.inf, np.float32)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["s"]),
        helper.make_node("Concat", ["s", "off"], ["y"], axis=1),
    ]
    source = save_graph(tmp_path / "m.onnx", nodes, weights)
    quantize_static(source, tmp_path / "q.onnx", [(IMAGES,)])
    made, right = run(tmp_path / "q.onnx", IMAGES), run(source, IMAGES)
    assert np.isneginf(made[:, 8:]).all()
    assert decibel(made[:, :8], right[:, :8]) > 25


def experts():
    """Return a net of matrices side by side whose outputs differ a hundredfold in size."""
    rng = np.random.default_rng(5)
    size = 10.0 ** rng.uniform(-2, 0, 32)
    weights = {
        "E": (rng.normal(0, 0.2, (4, 144, 32)) * size).astype(np.float32),
        "W": (rng.normal(0, 0.2, (128, 10)) / np.tile(size, 4)[:, None]).astype(np.float32),
        "parts": np.array([0, 4, 1, 144], np.int64),
        "flat": np.array([0, 128], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "parts"], ["p"]),
        helper.make_node("MatMul", ["p", "E"], ["m"]),
        helper.make_node("Reshape", ["m", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["y"]),
    ]
    return nodes, weights


def only_experts(path):
    """Write the matrices side by side alone: 4 x 32 outputs."""
    nodes, weights = experts()
    nodes = [*nodes[:2], helper.make_node("Reshape", ["m", "flat"], ["y"])]
    return save_graph(path, nodes, {name: weights[name] for name in ("E", "parts", "flat")}, classes=128)


@pytest.mark.parametrize(("bits", "group", "least"), [(8, 0, 35), (4, 16, 14)])
def test_weights_of_matrices_side_by_side_have_a_scale_for_each_output(tmp_path, bits, group, least):
    source = only_experts(tmp_path / "m.onnx")
    quantize_weights(source, tmp_path / "q.onnx", bits, group)
    made, right = run(tmp_path / "q.onnx", IMAGES), run(source, IMAGES)
    # small outputs are as near as large ones, which they are not with a scale for all, or along the inputs
    assert min(decibel(made[:, one], right[:, one]) for one in range(128)) > least


def test_static_scales_of_matrices_side_by_side_run_along_their_outputs(tmp_path):
    quantize_static(only_experts(tmp_path / "m.onnx"), tmp_path / "q.onnx", [(IMAGES,)])
    model = onnx.load(str(tmp_path / "q.onnx"))
    scales = {one.name: tuple(one.dims) for one in model.graph.initializer}
    assert scales["E_scale"] == (32,)
    (node,) = [one for one in model.graph.node if "E_scale" in one.input]
    assert [item.i for item in node.attribute if item.name == "axis"] == [2]


def test_groups_of_matrices_side_by_side_lie_along_their_inputs(tmp_path):
    source = save_graph(tmp_path / "m.onnx", *experts())
    quantize_weights(source, tmp_path / "q.onnx", 4, 16)
    scales = {one.name: tuple(one.dims) for one in onnx.load(str(tmp_path / "q.onnx")).graph.initializer}
    assert scales["E.scale"] == (4, 144 // 16, 32)
    assert scales["W.scale"] == (128 // 16, 10)


def test_dynamic_says_what_stays_in_float_and_refuses_where_all_would(tmp_path):
    nodes, weights = experts()
    source = save_graph(tmp_path / "m.onnx", nodes, weights)
    (note,) = quantize_dynamic(source, tmp_path / "q.onnx")
    assert "per_channel: false" in note
    kept = {one.name: one.data_type for one in onnx.load(str(tmp_path / "q.onnx")).graph.initializer}
    assert kept["E"] == onnx.TensorProto.FLOAT
    assert "W" not in kept
    assert decibel(run(tmp_path / "q.onnx", IMAGES), run(source, IMAGES)) > 5
    assert quantize_dynamic(source, tmp_path / "q.onnx", per_channel=False) == ()
    with pytest.raises(RequestError, match="nothing that can be quantised but weights of three or more axes"):
        quantize_dynamic(only_experts(tmp_path / "n.onnx"), tmp_path / "q.onnx")


def test_a_group_that_does_not_divide_a_matrix_is_said(tmp_path):
    weights = {
        "A": RNG.normal(0, 0.1, (576, 30)).astype(np.float32),
        "B": RNG.normal(0, 0.1, (30, 10)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "A"], ["h"]),
        helper.make_node("MatMul", ["h", "B"], ["y"]),
    ]
    source = save_graph(tmp_path / "m.onnx", nodes, weights)
    (note,) = quantize_weights(source, tmp_path / "q.onnx", 8, 16, least=64)
    assert "groups of 16 do not divide B (30 inputs)" in note


def test_a_matrix_that_another_operator_reads_too_is_stored_once(tmp_path):
    weights = {"E": RNG.normal(0, 0.1, (576, 576)).astype(np.float32), "row": np.array([3], np.int64)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "E"], ["h"]),
        helper.make_node("Gather", ["E", "row"], ["e"]),
        helper.make_node("Add", ["h", "e"], ["y"]),
    ]
    source = save_graph(tmp_path / "m.onnx", nodes, weights, classes=576)
    quantize_weights(source, tmp_path / "q.onnx")
    assert (tmp_path / "q.onnx").stat().st_size < 0.3 * source.stat().st_size
    assert decibel(run(tmp_path / "q.onnx", IMAGES), run(source, IMAGES)) > 35


def test_a_bias_beside_tiny_weights_fits_into_32_bits_in_4_bit_layers(tmp_path):
    weights = {"A": RNG.normal(0, 0.1, (576, 10)).astype(np.float32), "B": np.zeros(10, np.float32)}
    weights["A"][:, 4], weights["B"][4] = 1e-12, 2.0  # a channel that has died, but for its bias
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "A", "B"], ["y"])]
    source, prepared = save_graph(tmp_path / "m.onnx", nodes, weights), tmp_path / "p.onnx"
    prepare(source, prepared)
    batches = feeds(prepared, [(IMAGES,)])
    found = tensor_ranges(prepared, batches, "minmax", symmetric=False)
    (layer,) = layers(prepared)
    write_qdq(prepared, tmp_path / "q.onnx", found, four_bits=[layer])
    made = run(tmp_path / "q.onnx", IMAGES)
    np.testing.assert_allclose(made[:, 4], 2.0, rtol=0.02)
    (entries,) = four_bit_weights(onnx.load(str(prepared)).graph, [layer], True, {layer.node: 0.01}).values()
    # 2.0 in steps of 0.01 x scale must stay below 2^31
    assert entries[4]["scale"] >= 2.0 / 0.01 / 2**31
