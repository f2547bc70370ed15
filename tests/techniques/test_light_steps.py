"""Single weights, low rank, norm statistics and weight-only integers, by hand-worked numbers."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.errors import RequestError
from efflab.models.mobile_net import mobile_net
from efflab.models.resnet_cifar import resnet_cifar
from efflab.models.vision_transformer import vision_transformer
from efflab.profiling.quality import parity
from efflab.profiling.work_module import count_module
from efflab.profiling.work_of_artefact import count_onnx
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.export_onnx import export_onnx
from efflab.techniques.low_rank import low_rank
from efflab.techniques.prune_weights import prune_weights
from efflab.techniques.quantize_weights import quantize_weights
from efflab.techniques.reestimate_norms import reestimate_norms
from efflab.training.trainer import fit

TASK = DigitsClutter(**DigitsClutter.tiny)
IMAGES = torch.from_numpy(TASK.split("validation").inputs[0][:16].copy())
NETS = {
    "resnet": lambda: resnet_cifar(8, 1, 1),
    "depthwise": lambda: mobile_net(8, 1, 1),
    "transformer": lambda: vision_transformer(32, 2, channels=1),
}


@pytest.fixture(params=NETS)
def net(request):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return NETS[request.param]().eval()


def test_the_least_weights_go_and_ties_go_by_place():
    layer = nn.Sequential(nn.Linear(4, 2, bias=False))
    layer[0].weight.data = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.5, 4.0, -0.25, 1.0]])
    assert prune_weights(layer, 0.5, scope="layer", spare_ends=False) == 0.5
    assert layer[0].weight.tolist() == [[0.0, -2.0, 0.0, 3.0], [0.0, 4.0, 0.0, 1.0]]


def test_two_of_every_four():
    layer = nn.Sequential(nn.Linear(4, 2, bias=False))
    layer[0].weight.data = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.5, 4.0, -0.25, 1.0]])
    prune_weights(layer, pattern="2:4", spare_ends=False)
    assert layer[0].weight.tolist() == [[0.0, -2.0, 0.0, 3.0], [0.0, 4.0, 0.0, 1.0]]


def test_zeros_are_on_the_ledger_on_every_net_and_ends_are_spared(net):
    before = count_module(net, (IMAGES[:1],))
    share = prune_weights(net, 0.75)
    after = count_module(net, (IMAGES[:1],))
    assert share == pytest.approx(0.75, abs=0.001)
    assert after["macs"] == before["macs"]
    assert after["effective_macs"] < 0.9 * before["effective_macs"]
    weights = [layer.weight for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert all(bool((one != 0).all()) for one in (weights[0], weights[-1]))


def test_what_is_pruned_stays_pruned_in_training():
    torch.manual_seed(0)
    net = resnet_cifar(4, 1, 1)
    share = prune_weights(net, 0.6)
    zeros = {name: one == 0 for name, one in net.named_parameters() if one.ndim > 1}
    fit(
        net,
        TASK,
        TrainingSettings(epochs=0.5, learning_rate=0.05, batch_size=64, weight_decay=5e-4, warmup=0.1, bf16=False),
        0,
    )
    assert 0.5 < share < 0.7
    for name, one in net.named_parameters():
        if name in zeros:
            assert torch.equal(one == 0, zeros[name]), name


def test_a_layer_of_low_rank_is_split_without_loss():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 48))
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(48, 3) @ torch.randn(3, 64))
    whole = copy.deepcopy(net)
    assert low_rank(net, 0.999999) == {"0": (3, 0)}
    x = torch.randn(5, 64)
    assert torch.allclose(net(x), whole(x), atol=1e-4)
    # 64 x 3 + 3 x 48 products instead of 64 x 48
    assert count_module(net, (x[:1],))["macs"] == 64 * 3 + 3 * 48
    assert count_module(whole, (x[:1],))["macs"] == 64 * 48


def test_low_rank_of_convolutions_keeps_stride_and_padding(net):
    before = count_module(net, (IMAGES[:1],))["macs"]
    wanted = net(IMAGES).shape
    ranks = low_rank(net, 0.5)
    assert ranks
    assert net(IMAGES).shape == wanted
    assert count_module(net, (IMAGES[:1],))["macs"] < before


def test_ranks_that_save_nothing_are_refused():
    torch.manual_seed(0)
    net = resnet_cifar(4, 1, 1)
    with pytest.raises(RequestError, match="no layer saves MACs at an energy of 0.9999"):
        low_rank(net, 0.9999)


def test_statistics_are_those_of_the_data():
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5)).eval()
    net[0].running_mean.fill_(9.0)
    data = np.random.default_rng(0).normal(3, 2, (64, 1, 4, 4)).astype(np.float32)
    reestimate_norms(net, [(data[:32],), (data[32:],)])
    assert float(net[0].running_mean) == pytest.approx(data.mean(), abs=1e-5)
    assert net[0].momentum == 0.1
    assert not net[0].training
    with pytest.raises(RequestError, match="no batch norm"):
        reestimate_norms(nn.Sequential(nn.Linear(2, 2)), [])


@pytest.mark.parametrize(("bits", "group", "sqnr_db"), [(8, 0, 38), (4, 0, 10), (8, 16, 38), (4, 16, 12)])
def test_weights_in_few_bits_run_and_shrink_the_file(bits, group, sqnr_db, tmp_path):
    torch.manual_seed(0)
    net = vision_transformer(64, 2, channels=1).eval()
    path = tmp_path / "model.onnx"
    export_onnx(net, path, IMAGES[:2])
    right = onnxruntime.InferenceSession(path).run(
        None, {onnxruntime.InferenceSession(path).get_inputs()[0].name: IMAGES.numpy()}
    )
    size, before = path.stat().st_size, count_onnx(path)
    quantize_weights(path, path, bits, group)
    assert path.stat().st_size < size * (0.45 if bits == 8 else 0.35)
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    assert parity(found, right)["sqnr_db"] > sqnr_db
    after = count_onnx(path)
    assert after["macs"] == before["macs"]
    assert after["bit_operations"] < before["bit_operations"]


def test_integers_by_hand(tmp_path):
    value = onnx.helper.make_tensor_value_info
    weight = np.array([[1.0, -0.5], [0.25, 4.0]], np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [value("x", 1, ["n", 2])], [value("y", 1, ["n", 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    onnx.save(
        onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)]),
        tmp_path / "m.onnx",
    )
    quantize_weights(tmp_path / "m.onnx", tmp_path / "q.onnx", 8, 0, least=1)
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / "q.onnx").graph.initializer}
    # a scale for each output, a column: 1 / 127 and 4 / 127
    assert stored["w.integers"].tolist() == [[127, -16], [32, 127]]
    assert stored["w.scale"].tolist() == pytest.approx([1 / 127, 4 / 127])
    assert "w" not in stored
    with pytest.raises(RequestError, match="no weight has 256 numbers"):
        quantize_weights(tmp_path / "m.onnx", tmp_path / "q.onnx")
    with pytest.raises(RequestError, match="quantised already"):
        quantize_weights(tmp_path / "q.onnx", tmp_path / "r.onnx", least=1)
