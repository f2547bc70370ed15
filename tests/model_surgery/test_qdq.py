"""Ranges, layers, QDQ graphs and bias correction on graphs small enough to check by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from efflab.model_surgery.quantization.bias_correction import correct_biases
from efflab.model_surgery.quantization.qdq import (
    feeds,
    layers,
    least_squares_range,
    outputs,
    prepare,
    relative_error,
    tensor_ranges,
    write_qdq,
)


def two_convolutions(path: Path, seed: int = 0) -> Path:
    """Write conv (2 -> 4, 3x3) -> relu -> depthwise conv -> mean, with weights whose channels differ in size."""
    rng = np.random.default_rng(seed)
    first = (
        rng.normal(size=(4, 2, 3, 3)).astype(np.float32) * np.array([1, 0.02, 0.3, 2], np.float32)[:, None, None, None]
    )
    second = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)
    stored = {"w1": first, "b1": np.zeros(4, np.float32), "w2": second, "b2": np.ones(4, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2", "b2"], ["y"], name="second", group=4),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 4, 4])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def images(count: int = 32) -> list[tuple[np.ndarray, ...]]:
    data = np.random.default_rng(1).uniform(0, 1, (count, 2, 8, 8)).astype(np.float32)
    return [(data[at : at + 8],) for at in range(0, count, 8)]


def test_layers_are_the_nodes_with_a_stored_weight(tmp_path):
    found = layers(two_convolutions(tmp_path / "g.onnx"))
    assert [(one.node, one.operator, one.weight, one.bias) for one in found] == [
        ("first", "Conv", "w1", "b1"),
        ("second", "Conv", "w2", "b2"),
    ]


def test_the_range_of_least_squares_clips_a_lone_outlier_and_keeps_a_uniform_one():
    edges = np.linspace(-10, 10, 2049)
    middles = (edges[1:] + edges[:-1]) / 2
    uniform = ((middles > 0) & (middles < 10)).astype(float) * 100
    assert least_squares_range(uniform, edges, 0.0, 10.0, False) == pytest.approx((0.0, 10.0))
    lone = ((middles > 0) & (middles < 2)).astype(float) * 1e6
    lone[-1] = 1
    low, high = least_squares_range(lone, edges, 0.0, 10.0, False)
    assert low == 0
    # 2e8 numbers below 2, so a step of 2/255 rather than 10/255 saves far more than one number clipped by 8 costs
    assert high == pytest.approx(2.0)
    assert least_squares_range(lone, edges, 0.0, 10.0, True) == pytest.approx((-2.0, 2.0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.booleans())
def test_the_range_holds_zero_and_is_never_larger_than_what_was_seen(values, symmetric):
    counts, edges = np.histogram(values, bins=64, range=(-5, 5))
    low, high = least_squares_range(counts.astype(float), edges, min(values), max(values), symmetric)
    assert low <= 0 <= high
    most = max(map(abs, values))
    assert -most - 1e-9 <= low
    assert high <= most + 1e-9
    if symmetric:
        assert low == -high


# the bins of `entropy` grow with what is seen, and its range with them
@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "mse"])
def test_ranges_do_not_depend_on_how_examples_are_batched(tmp_path, calibrator):
    prepared = tmp_path / "p.onnx"
    prepare(two_convolutions(tmp_path / "g.onnx"), prepared)
    (whole,) = (np.concatenate([batch[0] for batch in images()]),)
    few = tensor_ranges(prepared, feeds(prepared, images()), calibrator, False)
    once = tensor_ranges(prepared, feeds(prepared, [(whole,)]), calibrator, False)
    for name in few.keys():  # noqa: SIM118 (no mapping)
        some, all_at_once = (np.ravel([float(np.squeeze(end)) for end in one[name].range_value]) for one in (few, once))
        assert some == pytest.approx(all_at_once, rel=0.1, abs=0.05)


def test_nodes_stay_in_float_or_alone_are_quantised_as_asked(tmp_path):
    prepared, made = tmp_path / "p.onnx", tmp_path / "q.onnx"
    prepare(two_convolutions(tmp_path / "g.onnx"), prepared)
    batches = feeds(prepared, images())
    ranges = tensor_ranges(prepared, batches, "minmax", False)
    for options in ({"in_float": ["second"]}, {"only": ["first"]}):
        write_qdq(prepared, made, ranges, **options)
        model = onnx.load(made)
        kinds = {one.name: one.data_type for one in model.graph.initializer}
        assert kinds["w2"] == TensorProto.FLOAT
        assert TensorProto.INT8 in kinds.values()
    assert relative_error(outputs(prepared, batches), outputs(made, batches)) < 1e-3


def test_four_bit_weights_are_the_rounded_ones(tmp_path):
    prepared, made = tmp_path / "p.onnx", tmp_path / "q.onnx"
    prepare(two_convolutions(tmp_path / "g.onnx"), prepared)
    ranges = tensor_ranges(prepared, feeds(prepared, images()), "minmax", False)
    write_qdq(prepared, made, ranges, four_bits=[layers(prepared)[0]])
    weight = next(
        one for one in onnx.load(made).graph.initializer if one.data_type == TensorProto.INT4 and len(one.dims) == 4
    )
    float_weight = next(numpy_helper.to_array(one) for one in onnx.load(prepared).graph.initializer if one.name == "w1")
    scale = np.abs(float_weight).reshape(4, -1).max(axis=1) / 7
    expected = np.rint(float_weight / scale[:, None, None, None])
    assert np.array_equal(numpy_helper.to_array(weight).astype(np.float32), expected)


def test_corrected_biases_bring_the_mean_outputs_back(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 256)).astype(np.float32)
    step = np.abs(weight[[0, 2, 3]]).max() / 127  # one scale for the whole tensor
    weight[1] = 0.49 * step  # each rounds to zero, all in the same direction
    stored = {"w": weight, "b": np.zeros(4, np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", transB=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    source, prepared, made = (tmp_path / name for name in ("g.onnx", "p.onnx", "q.onnx"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), source)
    prepare(source, prepared)
    batches = feeds(prepared, [(rng.uniform(0, 1, (64, 256)).astype(np.float32),) for _ in range(4)])
    write_qdq(prepared, made, tensor_ranges(prepared, batches, "minmax", False), per_channel=False)
    wanted = outputs(prepared, batches).mean(axis=0)
    assert np.abs(outputs(made, batches).mean(axis=0) - wanted).max() > 0.9 * 256 * 0.49 * step * 0.5
    assert correct_biases(prepared, made, batches) == 1
    # what is left is the rounding of activations
    assert np.abs(outputs(made, batches).mean(axis=0) - wanted).max() < 0.1 * 256 * 0.49 * step * 0.5
