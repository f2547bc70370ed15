import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings, strategies
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from efflab.foundation.errors import RequestError
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_module import count_module, is_compute
from efflab.profiling.work_of_artefact import count_onnx

FP32 = 32 * 32


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function, *parameters):
        super().__init__()
        self.function = function
        self.parameters_ = nn.ParameterList(parameters)

    def forward(self, *inputs):
        return self.function(*inputs, *self.parameters_)


def macs(module, *shape):
    return count_module(module, (torch.zeros(shape),))["macs"]


def test_single_layers_by_hand():
    assert macs(nn.Conv2d(3, 8, 3, padding=1), 1, 3, 10, 10) == 8 * 10 * 10 * 3 * 9
    assert macs(nn.Conv2d(8, 12, 5, stride=2, groups=4), 1, 8, 11, 11) == 12 * 4 * 4 * 2 * 25
    assert macs(nn.Conv1d(4, 4, 3, groups=4), 1, 4, 10) == 4 * 8 * 3
    assert macs(nn.ConvTranspose2d(4, 6, 3, stride=2), 1, 4, 5, 5) == 4 * 25 * 6 * 9
    assert macs(nn.Linear(7, 5), 1, 7) == 35
    assert macs(nn.Linear(7, 5, bias=False), 1, 3, 7) == 3 * 35
    assert macs(nn.LSTM(8, 16, batch_first=True), 1, 5, 8) == 5 * 4 * 16 * (8 + 16)


@given(strategies.integers(1, 4), strategies.integers(1, 3), strategies.integers(1, 3), strategies.integers(6, 9))
@settings(deadline=None, max_examples=20)
def test_a_grouped_convolution_costs_its_share_of_the_dense_one(groups, width, stride, side):
    def of(groups_):
        return macs(nn.Conv2d(4 * groups, width * groups, 3, stride, groups=groups_), 1, 4 * groups, side, side)

    assert of(groups) * groups == of(1)


def test_resnet20_on_paper():
    torch.manual_seed(0)  # rarely, a weight is drawn as 0
    # stem, six convolutions of 16 channels at 32 x 32, and twice: a first half, five convolutions, a 1x1 shortcut
    stage1 = 6 * 16 * 16 * 9 * 32 * 32
    stage2 = (16 * 32 * 9 + 5 * 32 * 32 * 9 + 16 * 32) * 16 * 16
    stage3 = (32 * 64 * 9 + 5 * 64 * 64 * 9 + 32 * 64) * 8 * 8
    on_paper = 3 * 16 * 9 * 32 * 32 + stage1 + stage2 + stage3 + 64 * 10
    work = count_module(resnet_cifar(16, 3), (torch.zeros(1, 3, 32, 32),))
    assert work["macs"] == work["effective_macs"] == on_paper == 40_813_184
    assert work["bit_operations"] == on_paper * FP32
    assert work["params"] == 272_474
    assert (work["coverage"], work["uncounted"]) == (1.0, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_functional_attention_is_counted_on_the_processor(dtype):
    attend = Calls(functional.scaled_dot_product_attention)
    query = torch.zeros(1, 2, 5, 8, dtype=dtype)
    key, value = torch.zeros(1, 2, 7, 8, dtype=dtype), torch.zeros(1, 2, 7, 8, dtype=dtype)
    work = count_module(attend, (query, key, value))
    assert work["macs"] == 2 * 5 * 7 * (8 + 8)
    assert work["bit_operations"] == work["macs"] * (8 * dtype.itemsize) ** 2
    assert work["coverage"] == 1.0


def test_the_encoders_fast_path_hides_nothing():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
    projections = 7 * 4 * 32 * 32
    attention = 2 * 7 * 7 * 32
    assert macs(encoder, 1, 7, 32) == 2 * (projections + attention + 7 * 2 * 32 * 64)
    assert torch.backends.mha.get_fastpath_enabled()


def test_inference_mode_and_training_mode_make_no_difference():
    model = resnet_cifar(4, 1).train()
    expected = count_module(model, (torch.zeros(1, 3, 32, 32),))
    assert model.bn1.training
    assert model.bn1.num_batches_tracked == 0
    with torch.inference_mode():
        assert count_module(model, (torch.zeros(1, 3, 32, 32),)) == expected


def test_what_has_no_formula_is_listed():
    weight = nn.Parameter(torch.ones(8, 8, 8))
    model = Calls(lambda x, w: functional.bilinear(x, x, w) + torch.fft.fft(x).real + x @ w[0], weight)
    work = count_module(model, (torch.zeros(1, 8),))
    assert work["uncounted"] == {"aten::_fft_r2c": 1, "aten::_trilinear": 1}
    assert work["coverage"] == pytest.approx(1 / 3)
    assert work["macs"] == 64


def test_operators_of_unknown_libraries_count_as_compute():
    with torch.library._scoped_library("efflab_test", "DEF") as library:
        library.define("magic(Tensor x) -> Tensor")
        library.impl("magic", lambda x: x.clone(), "CPU")
        work = count_module(Calls(lambda x: torch.ops.efflab_test.magic(x)), (torch.ones(1, 2),))
    assert work["uncounted"] == {"efflab_test::magic": 1}
    assert work["coverage"] == 0.0


@pytest.mark.parametrize("name", ["lgamma", "upsample_bilinear2d", "relu", "native_batch_norm", "hamming_window"])
def test_cheap_operators_do_not_lower_coverage(name):
    assert not is_compute("aten", name)


@pytest.mark.parametrize("name", ["_weight_int4pack_mm", "linalg_solve", "_cdist_forward", "mkldnn_rnn_layer"])
def test_products_are_recognised_by_their_names(name):
    assert is_compute("aten", name)


def test_zeros_of_weights_lower_effective_macs_layer_by_layer():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 16, 2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].weight[:3] = 0
        model[2].weight.fill_(1)
        model[2].weight[:, :32] = 0
    work = count_module(model, (torch.ones(1, 1, 6, 6),))
    assert work["macs"] == 36 * 16 + 128
    assert work["effective_macs"] == 36 * 16 // 4 + 64
    assert (work["params"], work["nonzero_params"]) == (36 + 128, 9 + 64)


def test_zeros_of_a_masked_or_cast_weight_are_seen_and_those_of_activations_are_not():
    weight, mask = nn.Parameter(torch.ones(8, 4)), nn.Parameter(torch.tensor([1.0, 0.0] * 16).view(8, 4))
    masked = Calls(lambda x, w, m: functional.linear(x.bfloat16(), (w * m).bfloat16()), weight, mask)
    work = count_module(masked, (torch.zeros(1, 4),))
    assert (work["macs"], work["effective_macs"], work["bit_operations"]) == (32, 16, 32 * 16 * 16)


def test_integer_products_have_their_bits():
    multiply = Calls(torch._int_mm)
    work = count_module(multiply, (torch.ones(32, 16, dtype=torch.int8), torch.ones(16, 8, dtype=torch.int8)))
    assert (work["macs"], work["bit_operations"]) == (32 * 16 * 8, 32 * 16 * 8 * 64)


# --- ONNX -----------------------------------------------------------------------------------------------------------


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(5, 8), nn.LayerNorm(8)
        self.attend, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 6)

    def forward(self, tokens):
        x = self.norm(self.embed(tokens))
        return self.last(self.attend(x, x, x, need_weights=False)[0])


def exported(module, example, path, **settings):
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    pair = torch.cat([example, example])
    torch.onnx.export(module.eval(), (pair,), path, dynamo=True, dynamic_shapes=dynamic, verbose=False, **settings)
    return path


@pytest.mark.parametrize("folded", [True, False])
def test_a_convolutional_net_counts_the_same_as_module_and_as_graph(tmp_path, folded):
    model, example = resnet_cifar(4, 1), torch.zeros(1, 3, 32, 32)
    graph = exported(model, example, tmp_path / "m.onnx", optimize=folded)
    norms = [node for node in onnx.load(graph).graph.node if node.op_type == "BatchNormalization"]
    assert bool(norms) is not folded
    found, expected = count_onnx(graph), count_module(model, (example,))
    same = ("macs", "effective_macs", "bit_operations", "coverage")
    assert [found[key] for key in same] == [expected[key] for key in same]
    if not folded:
        assert found["params"] == expected["params"]


def test_attention_counts_the_same_as_module_and_as_graph(tmp_path):
    model, example = Sequence(), torch.zeros(1, 4, dtype=torch.long)
    found = count_onnx(exported(model, example, tmp_path / "m.onnx"))
    expected = count_module(model, (example,))
    assert found["macs"] == expected["macs"] == 4 * 4 * 64 + 2 * 4 * 4 * 8 + 4 * 48
    assert found["coverage"] == 1.0
    assert found["nonzero_params"] == expected["nonzero_params"]


def graph_file(path, nodes, stored, shape, kind=TensorProto.FLOAT, result="y"):
    tensors = [
        tensor if isinstance(tensor, TensorProto) else numpy_helper.from_array(tensor, name)
        for name, tensor in stored.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        tensors,
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("house", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains), path)
    return path


SCALE, ZERO = np.float32(0.1), np.int8(0)
NODE = helper.make_node
# 4 channels of 2x3x3; a whole channel stands for zero, which is stored as 3
WEIGHT = np.ones((4, 2, 3, 3), np.int8)
WEIGHT[1] = 3


def test_a_qdq_convolution_has_eight_by_eight_bits_and_its_zero_point_is_no_weight(tmp_path):
    nodes = [
        NODE("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        NODE("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        NODE("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        NODE("DequantizeLinear", ["b", "ws"], ["bd"], axis=0),
        NODE("Conv", ["xd", "wd", "bd"], ["y"]),
    ]
    stored = {
        "s": SCALE,
        "z": ZERO,
        "w": WEIGHT,
        "ws": np.full(4, 0.1, np.float32),
        "wz": np.array([0, 3, 0, 0], np.int8),
        "b": np.array([1, 0, 2, 3], np.int32),
    }
    work = count_onnx(graph_file(tmp_path / "m.onnx", nodes, stored, ["batch", 2, 8, 8]))
    dense = 4 * 36 * 18
    assert (work["macs"], work["effective_macs"]) == (dense, dense * 3 // 4)
    assert work["bit_operations"] == dense * 8 * 8
    assert (work["params"], work["nonzero_params"]) == (72 + 4, 54 + 3)


def test_a_weight_only_model_has_eight_by_thirty_two_bits_and_four_bit_weights_have_four(tmp_path):
    four = helper.make_tensor("w", TensorProto.INT4, (6, 5), np.arange(30) % 7)
    for weight, bits in ((np.ones((6, 5), np.int8), 8), (four, 4)):
        nodes = [NODE("DequantizeLinear", ["w", "s"], ["wd"]), NODE("MatMul", ["x", "wd"], ["y"])]
        work = count_onnx(graph_file(tmp_path / "m.onnx", nodes, {"w": weight, "s": SCALE}, ["n", 6]))
        assert (work["macs"], work["bit_operations"], work["params"]) == (30, 30 * bits * 32, 30)
    assert work["nonzero_params"] == 30 - 5


def test_half_precision_has_sixteen_bits(tmp_path):
    nodes = [NODE("Gemm", ["x", "w"], ["y"], transB=1)]
    path = graph_file(tmp_path / "m.onnx", nodes, {"w": np.ones((5, 6), np.float16)}, ["n", 6], TensorProto.FLOAT16)
    assert count_onnx(path)["bit_operations"] == 30 * 16 * 16


def test_integer_operators_are_counted(tmp_path):
    nodes = [
        NODE("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        NODE("MatMulInteger", ["xq", "w", "xz", "wz"], ["h"]),
        NODE("Cast", ["h"], ["hf"], to=TensorProto.FLOAT),
        NODE("Mul", ["hf", "xs"], ["y"]),
    ]
    stored = {"w": np.full((6, 5), 7, np.uint8), "wz": np.uint8(7)}
    work = count_onnx(graph_file(tmp_path / "m.onnx", nodes, stored, ["n", 6]))
    assert (work["macs"], work["bit_operations"], work["effective_macs"]) == (30, 30 * 64, 0)
    assert (work["params"], work["nonzero_params"]) == (30, 0)

    nodes = [
        NODE("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        NODE("QLinearConv", ["xq", "s", "z", "w", "s", "z", "s", "z", "b"], ["yq"]),
        NODE("DequantizeLinear", ["yq", "s", "z"], ["y"]),
    ]
    stored = {"s": SCALE, "z": ZERO, "w": WEIGHT, "b": np.zeros(4, np.int32)}
    work = count_onnx(graph_file(tmp_path / "m.onnx", nodes, stored, ["n", 2, 8, 8]))
    assert (work["macs"], work["bit_operations"], work["params"]) == (4 * 36 * 18, 4 * 36 * 18 * 64, 76)


def test_fused_and_packed_operators_of_onnx_runtime(tmp_path):
    nodes = [
        NODE("FusedMatMul", ["x", "w"], ["h"], domain="com.microsoft", transB=1),
        NODE("MatMulNBits", ["x", "p", "ps"], ["y"], domain="com.microsoft", K=32, N=5, bits=4, block_size=32),
    ]
    packed = {"p": np.ones((5, 1, 16), np.uint8), "ps": np.ones(5, np.float32)}
    work = count_onnx(graph_file(tmp_path / "m.onnx", nodes, {"w": np.ones((5, 32), np.float32), **packed}, ["n", 32]))
    assert (work["macs"], work["bit_operations"]) == (160 + 160, 160 * FP32 + 160 * 4 * 32)
    assert work["params"] == 160 + 160


def test_a_graph_with_a_fixed_batch_is_counted_for_one_example(tmp_path):
    nodes = [NODE("MatMul", ["x", "w"], ["y"])]
    path = graph_file(tmp_path / "m.onnx", nodes, {"w": np.ones((6, 5), np.float32)}, [8, 6])
    assert count_onnx(path)["macs"] == 30


def test_einsum_is_the_product_of_its_lengths(tmp_path):
    nodes = [NODE("Einsum", ["x", "w"], ["y"], equation="bij,kj->bik")]
    path = graph_file(tmp_path / "m.onnx", nodes, {"w": np.ones((5, 6), np.float32)}, ["n", 3, 6])
    assert count_onnx(path)["macs"] == 3 * 5 * 6


def test_constants_of_formulas_and_shapes_are_no_params(tmp_path):
    nodes = [
        NODE("Mul", ["x", "factor"], ["a"]),
        NODE("Reshape", ["a", "shape"], ["b"]),
        NODE("Add", ["b", "bias"], ["y"]),
    ]
    stored = {"factor": np.float32(2), "shape": np.array([-1, 6]), "bias": np.ones(6, np.float32)}
    work = count_onnx(graph_file(tmp_path / "m.onnx", nodes, stored, ["n", 2, 3]))
    assert (work["params"], work["coverage"]) == (6, 1.0)


def test_unknown_operators_and_unknown_shapes_are_listed(tmp_path):
    nodes = [
        NODE("Magic", ["x"], ["m"], domain="house"),
        NODE("MatMul", ["m", "w"], ["h"]),
        NODE("MatMul", ["x", "w"], ["y"]),
    ]
    path = graph_file(tmp_path / "m.onnx", nodes, {"w": np.ones((6, 5), np.float32)}, ["n", 6])
    work = count_onnx(path)
    assert work["uncounted"] == {"house::Magic": 1, "onnx::MatMul": 1}
    assert (work["coverage"], work["macs"]) == (pytest.approx(1 / 3), 30)


def test_what_is_no_onnx_file_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(RequestError, match="not a readable ONNX model"):
        count_onnx(tmp_path / "m.onnx")
    with pytest.raises(RequestError, match="no such file"):
        count_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([("a", "b"), ("b", "a")], "needs the tensor 'a' before it is made"),
        ([("x", "a"), ("a", "a")], "makes 'a' a second time"),
    ],
)
def test_a_graph_that_goes_in_circles_is_refused(tmp_path, nodes, said):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "a")]
    made = [helper.make_node("Relu", [source], [target]) for source, target in nodes]
    onnx.save(helper.make_model(helper.make_graph(made, "g", value[:1], value[1:])), tmp_path / "m.onnx")
    with pytest.raises(RequestError, match=said):
        count_onnx(tmp_path / "m.onnx")


def test_scales_of_weights_quantised_at_each_call_are_no_parameters(tmp_path):
    from onnx_models import classifier, save_graph

    from efflab.techniques.quantize_dynamic import quantize_dynamic

    source = save_graph(tmp_path / "m.onnx", *classifier())
    quantize_dynamic(source, tmp_path / "q.onnx")
    assert count_onnx(tmp_path / "q.onnx")["params"] == count_onnx(source)["params"] == 8 * 25 + 8 + 800 * 10 + 10


def test_weights_that_only_a_branch_reads_are_parameters_and_its_work_is_told(tmp_path):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inner = numpy_helper.from_array(np.ones((4, 4), np.float32), "inner")
    outer = numpy_helper.from_array(np.ones((4, 4), np.float32), "outer")
    out = [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    branches = {
        "then_branch": helper.make_graph([helper.make_node("MatMul", ["x", "outer"], ["o"])], "t", [], out),
        "else_branch": helper.make_graph([helper.make_node("MatMul", ["x", "inner"], ["o"])], "e", [], out, [inner]),
    }
    node = helper.make_node("If", ["which"], ["y"], **branches)
    which = numpy_helper.from_array(np.array(True), "which")
    ends = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ["n", 4]) for one in ("x", "y")]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [outer, which])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "m.onnx")
    )
    work = count_onnx(tmp_path / "m.onnx")
    assert work["params"] == 32
    assert work["uncounted"]
