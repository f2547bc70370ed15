import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from efflab.foundation.errors import RequestError
from efflab.validation.backends.suites.int8_saturation import forecast, paired_product


def test_pair_sums_by_hand():
    # 255 x 127 + 255 x 127 = 64,770, held at 32,767; 200 x 100 + 100 x -100 = 10,000 as it is
    x = np.array([[255, 255, 200, 100]], np.uint8)
    w = np.array([[127], [127], [100], [-100]], np.int8)
    found, saturated = paired_product(x, w)
    assert (found[0, 0], saturated) == (32_767 + 10_000, 1)
    # -128 twice: -65,280 held at -32,768
    assert paired_product(x[:, :2], np.full((2, 1), -128, np.int8))[0][0, 0] == -32_768
    # an odd one has no neighbour: a single product never saturates
    assert paired_product(x[:, :1], w[:1])[0][0, 0] == 255 * 127


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_small_weights_never_saturate(k, seed):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (4, k)).astype(np.uint8)
    w = generator.integers(-64, 64, (k, 3)).astype(np.int8)  # 7 bits: what reduce_range is for
    found, saturated = paired_product(x, w)
    assert saturated == 0
    np.testing.assert_array_equal(found, x.astype(int) @ w.astype(int))


def qdq_convolution(weights, group=1, pads=(1, 1, 1, 1), strides=(1, 1)):
    """Return a graph that quantises x by 1/128 about 128, and convolves it with int8 weights of scale 1/127."""
    channels = weights.shape[1] * group
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["v"]),
        helper.make_node("Conv", ["d", "v", "b"], ["y"], name="conv", group=group, pads=pads, strides=strides),
    ]
    constants = {
        "xs": np.float32(1 / 128), "xz": np.uint8(128), "w": weights, "ws": np.float32(1 / 127), "wz": np.int8(0),
        "b": np.arange(len(weights), dtype=np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", channels, 8, 8])],
        [value("y", TensorProto.FLOAT, ["n", len(weights), None, None])],
        [numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("group", "pads", "strides"), [(1, (1, 1, 1, 1), (1, 1)), (4, (1, 0, 0, 1), (2, 2)), (2, (0, 0, 0, 0), (1, 2))]
)
def test_the_exact_emulation_is_what_onnx_means(group, pads, strides, tmp_path):
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (8, 4 // group, 3, 3)).astype(np.int8)
    model = qdq_convolution(weights, group, pads, strides)
    onnx.save(model, tmp_path / "m.onnx")
    x = generator.normal(0, 0.4, (3, 4, 8, 8)).astype(np.float32)
    found = forecast(tmp_path / "m.onnx", (x,), batch=2)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    right = onnxruntime.InferenceSession(tmp_path / "m.onnx", options).run(None, {"x": x})[0]
    np.testing.assert_allclose(found.exact, right, atol=1e-4)
    (layer,) = found.layers
    assert (layer.name, layer.operator) == ("conv", "Conv")
    assert (layer.sqnr_db is None) == (layer.pairs_saturated == 0) == bool(np.array_equal(found.exact, found.saturated))


def test_large_weights_saturate_and_a_float_graph_has_nothing_to_forecast(tmp_path):
    onnx.save(qdq_convolution(np.full((2, 4, 3, 3), 127, np.int8)), tmp_path / "m.onnx")
    found = forecast(tmp_path / "m.onnx", (np.full((1, 4, 8, 8), 0.9, np.float32),))
    assert found.layers[0].pairs_saturated > 0.4
    assert (found.saturated < found.exact).all()
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, ir_version=10), tmp_path / "f.onnx")
    with pytest.raises(RequestError, match="has no convolution or matrix product"):
        forecast(tmp_path / "f.onnx", (np.ones(1, np.float32),))
