"""Which operators the ledger takes to multiply matrices, over all that torch, ONNX and ONNX Runtime have."""

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from efflab.profiling.work_module import FORMULAS, count_module, is_compute
from efflab.profiling.work_onnx_formulas import KNOWN_DOMAINS, OPERANDS, computes

OPERATORS = sorted(
    {
        name.removeprefix("aten::").partition(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if "aten::" in name
    }
)
COMPUTING = [name for name in OPERATORS if is_compute("aten", name)]


def words(text):
    return text.split()


def overloads(name):
    packet = getattr(torch.ops.aten, name)
    return [getattr(packet, overload) for overload in packet.overloads()]


# --- torch: names ---------------------------------------------------------------------------------------------------

ELEMENTWISE = words("""
    relu relu6 rrelu rrelu_with_noise leaky_relu prelu _prelu_kernel elu celu selu gelu silu glu mish hardtanh hardswish
    hardsigmoid hardshrink softshrink softplus threshold sigmoid log_sigmoid tanh sqrt rsqrt reciprocal square pow exp log
    erf clamp clip abs neg add sub mul div addcmul addcdiv lerp where logical_and logical_or logical_not logical_xor
    bitwise_and eq lt maximum dropout alpha_dropout feature_dropout masked_fill lgamma digamma mvlgamma xlogy hypot
    resolve_conj resolve_neg conj_physical ldexp nan_to_num quantize_per_tensor fake_quantize_per_tensor_affine linalg_cross
""")
SHAPES = words("""
    index_copy index_add index_fill index_put index_select gather scatter scatter_add view reshape permute transpose squeeze
    unsqueeze expand repeat cat stack split chunk slice slice_inverse select narrow unfold im2col col2im pixel_shuffle roll
    flip tril triu diagonal linalg_diagonal clone copy _to_copy contiguous constant_pad_nd reflection_pad2d embedding
    lu_unpack one_hot fft_fftshift fft_fftfreq mkldnn_reorder_conv2d_weight fbgemm_pack_gemm_matrix_fp16
""")
OTHERS = words("""
    native_batch_norm native_layer_norm native_group_norm rms_norm linalg_vector_norm _weight_norm _weight_norm_interface
    softmax _softmax log_softmax logsumexp mean sum prod cumsum var std norm amax argmax topk sort max_pool2d avg_pool2d
    adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d upsample_trilinear3d upsample_linear1d grid_sampler_2d
    hamming_window _thnn_fused_lstm_cell _pack_padded_sequence _transform_bias_rescale_qkv
""")
PRODUCTS = words("""
    mm bmm addmm addmm_ baddbmm baddbmm_ addbmm addbmm_ mv addmv addmv_ dot vdot addr addr_ ger outer inner linear bilinear
    _trilinear matmul einsum tensordot chain_matmul kron conv1d conv2d conv3d conv_tbc conv_transpose2d convolution
    _convolution mkldnn_convolution slow_conv_dilated2d _conv_depthwise2d lu_solve _lu_with_info linalg_lu_factor
    linalg_lu_factor_ex linalg_lu linalg_qr qr geqrf orgqr ormqr cholesky cholesky_solve cholesky_inverse linalg_cholesky_ex
    svd _linalg_svd linalg_eigh _linalg_eigh linalg_solve _linalg_solve_ex triangular_solve linalg_inv_ex inverse pinverse
    linalg_lstsq linalg_matrix_exp matrix_exp linalg_det _linalg_det linalg_householder_product cdist _cdist_forward
    _pdist_forward _euclidean_dist stft istft _fft_r2c _fft_c2c _fft_c2r fft_rfft lstm gru rnn_tanh mkldnn_rnn_layer
    scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _native_multi_head_attention
    _transformer_encoder_layer_fwd embedding_bag _embedding_bag _int_mm _scaled_mm _grouped_mm _weight_int8pack_mm
    _weight_int4pack_mm_for_cpu _sparse_mm smm sparse_sampled_addmm _foreach_mm affine_grid_generator
""")


def test_no_elementwise_operator_of_torch_is_taken_to_compute():
    marked = {name for name in OPERATORS if any(torch.Tag.pointwise in one.tags for one in overloads(name))}
    assert len(marked) > 200
    assert not marked.intersection(COMPUTING)


def test_no_operator_of_torch_that_gives_a_view_is_taken_to_compute():
    def is_view(one):
        marks = [result.alias_info for result in one._schema.returns]
        return any(mark is not None and not mark.is_write for mark in marks)

    views = {name for name in OPERATORS if any(is_view(one) for one in overloads(name))}
    assert len(views) > 50
    assert not views.intersection(COMPUTING)


@pytest.mark.parametrize("stem", ELEMENTWISE + SHAPES + OTHERS)
def test_families_that_multiply_no_matrices(stem):
    forms = {stem, f"{stem}_", f"_foreach_{stem}", f"_foreach_{stem}_", f"{stem}_backward", f"{stem}_copy"}
    assert forms.intersection(OPERATORS)
    assert not forms.intersection(COMPUTING)


def test_products_and_decompositions_of_torch():
    assert not set(PRODUCTS) - set(OPERATORS)
    assert not set(PRODUCTS) - set(COMPUTING)


def test_whatever_has_a_formula_is_an_operator_that_computes():
    assert not FORMULAS.keys() - set(COMPUTING)


def test_every_product_of_torch_has_both_its_forms_counted():
    in_place = {name for name in OPERATORS if name.endswith("_") and name[:-1] in FORMULAS}
    assert in_place == {"addmm_", "baddbmm_", "addbmm_", "addmv_", "addr_"}
    assert in_place <= FORMULAS.keys()


@pytest.mark.parametrize(
    ("name", "computes_"),
    [
        ("aten::relu_", False),
        ("prims::convert_element_type", False),
        ("prims::fft_r2c", True),
        ("quantized::linear_relu", True),
        ("quantized::conv2d", True),
        ("quantized::conv2d_prepack", False),
        ("quantized::leaky_relu", False),
        ("quantized_decomposed::dequantize_per_tensor", False),
        ("torchvision::nms", False),
        ("torchvision::deform_conv2d", True),
        ("house::relu_", True),
        ("house::upsample_and_convert", True),
    ],
)
def test_libraries_that_are_known_are_judged_by_names(name, computes_):
    assert is_compute(*name.split("::")) is computes_


# --- torch: nets ----------------------------------------------------------------------------------------------------


def net(activation):
    parts = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), activation(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), activation()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(8 * 400, 10))


NET_MACS = 8 * 22 * 22 * 9 + 8 * 20 * 20 * 8 * 9 + 32000
IN_PLACE = [nn.ReLU, nn.ReLU6, nn.SiLU, nn.ELU, nn.CELU, nn.SELU, nn.LeakyReLU, nn.RReLU, nn.Hardtanh, nn.Hardswish]
IN_PLACE += [nn.Hardsigmoid, nn.Mish, nn.Dropout, nn.AlphaDropout, lambda inplace: nn.Threshold(0.1, 0, inplace)]


@pytest.mark.parametrize("activation", IN_PLACE)
@pytest.mark.parametrize("inference", [False, True])
def test_activations_in_place_are_what_they_are_without(activation, inference):
    example = (torch.randn(1, 1, 24, 24),)
    with torch.inference_mode(inference):
        works = [count_module(net(lambda: activation(inplace=place)), example) for place in (False, True)]  # noqa: B023
    for work in works:
        assert (work["macs"], work["coverage"], work["uncounted"]) == (NET_MACS, 1.0, {})


@pytest.mark.parametrize("activation", [nn.PReLU, lambda: nn.PReLU(8), nn.GELU, nn.Softplus, nn.Tanh, nn.LogSigmoid])
def test_other_activations(activation):
    work = count_module(net(activation), (torch.randn(1, 1, 24, 24),))
    assert (work["macs"], work["coverage"], work["uncounted"]) == (NET_MACS, 1.0, {})


class Calls(nn.Module):
    def __init__(self, function, *parameters):
        super().__init__()
        self.function, self.parameters_ = function, nn.ParameterList(parameters)

    def forward(self, *inputs):
        return self.function(*inputs, *self.parameters_)


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6),
        lambda x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + 1e-5),
        lambda x: x.clone().mul_(x.square().mean(-1, keepdim=True).add_(1e-6).rsqrt_()),
        lambda x: torch.nn.functional.normalize(x, dim=-1),
        lambda x: functional.rms_norm(x, (8,)),
        lambda x: torch.where(torch.logical_and(x > 0, x < 1), x, x.sqrt()),
        lambda x: functional.glu(torch.cat([x, x], -1)),
    ],
)
def test_norms_by_hand_are_no_products(norm):
    work = count_module(Calls(lambda x, w: norm(x) @ w, nn.Parameter(torch.ones(8, 4))), (torch.rand(1, 8),))
    assert (work["macs"], work["coverage"], work["uncounted"]) == (32, 1.0, {})


@pytest.mark.parametrize(
    ("product", "macs"),
    [
        (lambda a, b: torch.zeros(3, 5).addmm_(a[0], b[0]), 3 * 4 * 5),
        (lambda a, b: torch.zeros(2, 3, 5).baddbmm_(a, b), 2 * 3 * 4 * 5),
        (lambda a, b: torch.zeros(3, 5).addbmm_(a, b), 2 * 3 * 4 * 5),
        (lambda a, b: torch.zeros(3).addmv_(a[0], b[0, :, 0]), 3 * 4),
        (lambda a, b: torch.zeros(4, 5).addr_(a[0, 0], b[0, 0]), 4 * 5),
        (lambda a, b: torch.addr(torch.zeros(4, 5), a[0, 0], b[0, 0]), 4 * 5),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), 2 * 3 * 4 * 5),
        (lambda a, b: torch.mm(a[0], b[0], out=torch.zeros(3, 5)), 3 * 4 * 5),
        (lambda a, b: functional.affine_grid(a[:1, :2, :3], [1, 1, 6, 7], False), 6 * 7 * 2 * 3),
    ],
)
def test_products_in_place_and_in_odd_forms_by_hand(product, macs):
    work = count_module(Calls(product), (torch.ones(2, 3, 4), torch.ones(2, 4, 5)))
    assert (work["macs"], work["coverage"], work["uncounted"]) == (macs, 1.0, {})


@pytest.mark.parametrize(("factors", "macs"), [(None, 0), (torch.ones(1, 3), 3 * 4)])
def test_an_embedding_bag_multiplies_only_by_factors(factors, macs):
    def bag(tokens, table):
        return functional.embedding_bag(tokens, table, mode="sum", per_sample_weights=factors)

    work = count_module(Calls(bag, nn.Parameter(torch.ones(5, 4))), (torch.tensor([[0, 1, 4]]),))
    assert (work["macs"], work["coverage"], work["uncounted"]) == (macs, 1.0, {})


@pytest.mark.parametrize(
    ("decompose", "listed"),
    [
        (lambda x: torch.linalg.qr(x)[0], "aten::linalg_qr"),
        (lambda x: torch.linalg.lu_factor(x)[0], "aten::linalg_lu_factor_ex"),
        (lambda x: torch.linalg.svd(x)[0], "aten::_linalg_svd"),
        (lambda x: torch.geqrf(x)[0], "aten::geqrf"),
        (torch.linalg.cholesky, "aten::linalg_cholesky_ex"),
    ],
)
def test_decompositions_are_listed(decompose, listed):
    work = count_module(Calls(decompose), (torch.eye(4),))
    assert (work["macs"], work["coverage"]) == (0, 0.0)
    assert work["uncounted"] == {listed: 1}


def test_transposed_convolutions_by_hand():
    for groups in (1, 4, 16):
        up = nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1, groups=groups, bias=False)
        assert count_module(up, (torch.zeros(1, 16, 10, 10),))["macs"] == 16 * 100 * (16 // groups) * 16


def test_an_operator_in_place_does_not_write_on_the_example():
    example = -torch.ones(1, 8)
    count_module(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 2)), (example,))
    assert torch.equal(example, -torch.ones(1, 8))


# --- ONNX -----------------------------------------------------------------------------------------------------------


def onnx_names():
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    schemas = [*onnx.defs.get_all_schemas_with_history(), *get_all_operator_schema()]
    return {(one.domain, one.name) for one in schemas if one.domain in KNOWN_DOMAINS}


ONNX_CHEAP = words("""
    Relu LeakyRelu PRelu Elu Celu Selu Gelu Mish HardSwish HardSigmoid Sigmoid Tanh Softplus Sqrt Reciprocal Pow Exp Erf And
    Or Not Xor Where Clip Add Mul Div Sub Softmax LogSoftmax Hardmax BatchNormalization InstanceNormalization
    LayerNormalization RMSNormalization GroupNormalization LpNormalization MeanVarianceNormalization LRN Dropout Concat
    Split Slice Gather GatherND GatherElements ScatterND ScatterElements Reshape Transpose Flatten Expand Tile Pad Resize
    Upsample DepthToSpace SpaceToDepth GridSample RoiAlign MaxPool AveragePool GlobalAveragePool ReduceMean ReduceSum
    ReduceL2 ReduceSumSquare CumSum TopK ArgMax NonZero Shape Cast QuantizeLinear DequantizeLinear DynamicQuantizeLinear
    Identity Constant ConstantOfShape RotaryEmbedding
""")
MICROSOFT_CHEAP = words("""
    BiasGelu FastGelu QuickGelu BiasSoftmax SkipLayerNormalization SkipSimplifiedLayerNormalization EmbedLayerNormalization
    SkipGroupNorm GroupNorm QLinearAdd QLinearMul QLinearLeakyRelu QLinearSigmoid QLinearConcat QLinearAveragePool
    QLinearSoftmax QuantizeLinear DequantizeLinear RotaryEmbedding NhwcMaxPool ComplexMul RelativePositionBias
""")
ONNX_PRODUCTS = words("""
    Conv ConvTranspose ConvInteger DeformConv QLinearConv MatMul MatMulInteger QLinearMatMul Gemm Einsum LSTM GRU RNN
    Attention DFT STFT Det AffineGrid CausalConvWithState LinearAttention
""")
MICROSOFT_PRODUCTS = words("""
    FusedConv NhwcConv FusedMatMul FusedGemm QGemm GemmFastGelu MatMulNBits MatMulBnb4 MatMulFpQ4 MatMulIntegerToFloat
    DynamicQuantizeMatMul DynamicQuantizeLSTM Attention QAttention MultiHeadAttention GroupQueryAttention PackedAttention
    LongformerAttention MoE QMoE Rfft Irfft Inverse CDist TransposeMatMul GatedRelativePositionBias GatedDeltaNet
    WordConvEmbedding BeamSearch GreedySearch Sampling EPContext
""")


def test_operators_of_onnx_that_multiply_no_matrices():
    cheap = {("", name) for name in ONNX_CHEAP} | {("com.microsoft", name) for name in MICROSOFT_CHEAP}
    assert not cheap - onnx_names()
    assert [name for domain, name in cheap if computes(onnx.helper.make_node(name, [], [], domain=domain))] == []


def test_products_of_onnx():
    products = {("", name) for name in ONNX_PRODUCTS} | {("com.microsoft", name) for name in MICROSOFT_PRODUCTS}
    products |= {
        ("ai.onnx.ml", name) for name in ("LinearRegressor", "LinearClassifier", "SVMRegressor", "SVMClassifier")
    }
    assert not products - onnx_names()
    assert [name for domain, name in products if not computes(onnx.helper.make_node(name, [], [], domain=domain))] == []
    assert all(computes(onnx.helper.make_node(name, [], [])) for name in OPERANDS)


@pytest.mark.parametrize("domain", ["house", "com.microsoft.nchwc"])
def test_products_of_unknown_domains_are_listed_not_counted(tmp_path, domain):
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("MatMul", ["x", "x"], ["y"], domain=domain)]
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", onnx.TensorProto.FLOAT, [1, 6, 6])], [value("y", onnx.TensorProto.FLOAT, [1, 6, 6])]
    )
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(domain, 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
    from efflab.profiling.work_of_artefact import count_onnx

    work = count_onnx(tmp_path / "m.onnx")
    assert (work["macs"], work["uncounted"]) == (0, {f"{domain}::MatMul": 1})
