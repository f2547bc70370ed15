"""Steps that quantise say which large weights they left in float."""

import numpy as np
from onnx import helper
from onnx_models import classifier, save_graph

from efflab.model_surgery.quantization.float_weights import float_weights_note
from efflab.techniques.quantize_weights import quantize_weights


def test_a_weight_that_no_quantiser_takes_is_named(tmp_path):
    nodes, weights = classifier()
    weights["w"] = np.random.default_rng(1).normal(0, 0.2, (16, 1, 5, 5)).astype(np.float32)
    weights["b"], weights["W"] = np.zeros(16, np.float32), np.zeros((1600, 10), np.float32)
    nodes[-1] = helper.make_node("Einsum", ["f", "W"], ["g"], equation="nf,fc->nc")
    nodes.append(helper.make_node("Add", ["g", "B"], ["y"]))
    path = save_graph(tmp_path / "net.onnx", nodes, weights)
    quantize_weights(path, tmp_path / "made.onnx")
    assert float_weights_note(tmp_path / "made.onnx") == ("weights that stay in float: W of Einsum",)


def test_nothing_is_said_where_all_large_ones_are_integers(tmp_path):
    path = save_graph(tmp_path / "net.onnx", *classifier())
    assert float_weights_note(path) == ("weights that stay in float: W of Gemm",)
    quantize_weights(path, tmp_path / "made.onnx")
    assert float_weights_note(tmp_path / "made.onnx") == ()
