"""Clustering, gradual pruning, prices on scales, heads, Tucker, folding, fusing and aligning."""

import math

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from torch import nn

from efflab.artefacts.artefact import load_module, save_module
from efflab.contracts.examples import example_inputs, loss_gradients
from efflab.foundation.errors import RequestError
from efflab.model_surgery.quantization.qdq import feeds, outputs
from efflab.models.mobile_net import mobile_net
from efflab.models.resnet_cifar import resnet_cifar
from efflab.models.vision_transformer import vision_transformer
from efflab.profiling.work_module import count_module
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.align_channels import align_channels
from efflab.techniques.cluster_weights import ClusterWeights, cluster_weights
from efflab.techniques.export_onnx import export_onnx
from efflab.techniques.finetune import finetune
from efflab.techniques.fold_norms import fold_norms
from efflab.techniques.fuse_graph import fuse_graph
from efflab.techniques.low_rank import low_rank
from efflab.techniques.prune_channels import prune_channels
from efflab.techniques.prune_gradually import prune_gradually
from efflab.techniques.prune_heads import prune_heads
from efflab.techniques.prune_weights import prune_weights
from efflab.techniques.regularize_scales import regularize_scales

TASK = DigitsClutter(**DigitsClutter.tiny)
IMAGES = torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def net(builder=resnet_cifar, **sizes):
    torch.manual_seed(0)
    module = builder(**{"channels": 1, **sizes})
    module(torch.from_numpy(TASK.split("train").inputs[0][:64]))
    return module.eval()


def test_two_clusters_are_found_and_zeros_stay_zero():
    module = nn.Sequential(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 1.2, 0.0, 5.0], [0.8, 5.2, 4.8, 0.0]]))
    assert cluster_weights(module, bits=2, least=1) == {"0": 3}
    assert torch.allclose(module[0].weight, torch.tensor([[1.0, 1.0, 0.0, 5.0], [1.0, 5.0, 5.0, 0.0]]))


def test_packed_weights_come_back_bit_for_bit_and_cost_about_their_entropy(tmp_path):
    builder = {"model": "resnet_cifar", "settings": {"width": 8, "blocks": 1, "channels": 1}}
    module = net(width=8, blocks=1)
    prune_weights(module, 0.8)
    cluster_weights(module, bits=4)
    save_module(module, builder, [{"technique": "cluster_weights", "structure": {}}], tmp_path)
    loaded = load_module(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    with safe_open(str(tmp_path / "weights.safetensors"), "pt") as file:
        codes = file.get_tensor("layer3.0.conv2.weight.codes")
        assert len(file.get_tensor("layer3.0.conv2.weight.values")) <= 16
    _, counts = torch.unique(module.layer3[0].conv2.weight, return_counts=True)
    shares = counts / counts.sum()
    entropy_bytes = float(-(shares * shares.log2()).sum()) * int(counts.sum()) / 8
    # a code that looks at one weight at a time cannot be shorter; Huffman's is at most one bit a weight longer
    assert 0.9 * entropy_bytes < len(codes) < entropy_bytes + int(counts.sum()) / 8


def test_weights_trained_after_clustering_are_stored_whole(tmp_path):
    state = {"w": torch.randn(64, 64), "b": torch.zeros(64), "n": torch.tensor(3)}
    packed = ClusterWeights.pack(state)
    assert packed.keys() == state.keys()
    assert ClusterWeights.unpack(packed).keys() == state.keys()


def test_clustering_what_has_few_values_already_is_refused():
    module = net(width=8, blocks=1)
    cluster_weights(module, bits=4)
    with pytest.raises(RequestError, match="no layer has 512 weights and more than 16 values"):
        cluster_weights(module, bits=4)


def test_zeros_grow_by_the_cubic_schedule():
    module = net(width=8, blocks=1)
    shares = []

    def report(done, total, note):
        if done == total:
            weights = [layer.weight for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)][1:-1]
            shares.append(float(sum((one == 0).sum() for one in weights) / sum(one.numel() for one in weights)))

    prune_gradually(module, TASK, sparsity=0.8, rounds=2, epochs=2.0, batch_size=64, report=report)
    # 0.8 x (1 - (1/2)^3) = 0.7, then 0.8
    assert shares == pytest.approx([0.7, 0.8], abs=1e-3)


def test_gradual_pruning_goes_on_after_its_finished_rounds(tmp_path):
    settings = {"sparsity": 0.8, "rounds": 3, "epochs": 3.0, "batch_size": 64, "seed": 1}
    whole, cut, again = net(width=4, blocks=1), net(width=4, blocks=1), net(width=4, blocks=1)
    prune_gradually(whole, TASK, **settings)
    calls = []

    class CutError(Exception):
        pass

    def stop(done, total, note):
        calls.append(done)
        if done == total and len([one for one in calls if one == total]) == 2:
            raise CutError

    path = tmp_path / "c.safetensors"
    with pytest.raises(CutError):
        prune_gradually(cut, TASK, checkpoint=path, report=stop, **settings)
    prune_gradually(again, TASK, checkpoint=path, **settings)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_price_on_scales_makes_them_smaller():
    priced, plain = net(width=4, blocks=1), net(width=4, blocks=1)
    settings = {"epochs": 4.0, "learning_rate": 0.05, "batch_size": 64}
    regularize_scales(priced, TASK, penalty=0.01, **settings)
    finetune(plain, TASK, **settings)

    def size(module):
        return sum(float(part.weight.abs().sum()) for part in module.modules() if isinstance(part, nn.BatchNorm2d))

    assert size(priced) < 0.95 * size(plain)


@pytest.mark.parametrize("importance", ["taylor", "l2"])
def test_a_silent_head_goes_first_and_nothing_changes(importance):
    module = net(vision_transformer, width=32, depth=2)
    with torch.no_grad():
        for block, head in zip(module.blocks, (1, 2), strict=True):
            block.out.weight[:, head * 8 : head * 8 + 8] = 0
        wanted = module(IMAGES)
        kept = prune_heads(module, 0.25, importance, gradients=loss_gradients(TASK, 32))
        assert kept == {"blocks.0": [0, 2, 3], "blocks.1": [0, 1, 3]}
        assert torch.allclose(module(IMAGES), wanted, atol=1e-5)
    assert module.blocks[0].qkv.out_features == 3 * 24


def test_a_layer_keeps_its_best_head():
    module = net(vision_transformer, width=32, depth=2)
    kept = prune_heads(module, 0.9, "l2", scope="global")
    assert sorted(len(heads) for heads in kept.values()) == [1, 1]
    with pytest.raises(RequestError, match="no layer has a head to spare"):
        prune_heads(module, 0.5, "l2")


def test_channels_between_the_layers_of_a_perceptron_can_go():
    module = net(vision_transformer, width=32, depth=2)
    prune_channels(module, IMAGES, 0.5, round_to=1)
    assert module.blocks[0].mlp[0].out_features == 64
    assert module.blocks[0].qkv.out_features == 96


def test_a_kernel_of_low_tucker_rank_is_split_without_loss():
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 16, 3, stride=2, padding=1)
    with torch.no_grad():
        layer.weight.copy_(
            torch.einsum("srhw,ir,os->oihw", torch.randn(4, 3, 3, 3), torch.randn(12, 3), torch.randn(16, 4))
        )
    whole = nn.Sequential(layer)
    x = torch.randn(2, 12, 8, 8)
    wanted, before = whole(x), count_module(whole, (x[:1],))["macs"]
    assert low_rank(whole, 0.999999, method="tucker") == {"0": (3, 4)}
    assert torch.allclose(whole(x), wanted, atol=1e-4)
    # 64 places x 12 x 3, then 16 places x (3 x 9 x 4 + 4 x 16), instead of 16 places x 12 x 9 x 16
    assert count_module(whole, (x[:1],))["macs"] == 64 * 12 * 3 + 16 * (3 * 9 * 4 + 4 * 16)
    assert before == 16 * 12 * 9 * 16


@pytest.mark.parametrize("method", ["svd", "tucker"])
def test_a_budget_of_macs_is_met_and_nearly_used_up(method):
    module = net(width=16, blocks=1)
    before = count_module(module, (IMAGES[:1],))["macs"]
    low_rank(module, method=method, budget=0.5, example=(IMAGES[:1],))
    assert 0.45 < count_module(module, (IMAGES[:1],))["macs"] / before <= 0.5
    with pytest.raises(RequestError, match="allow more than 0.01"):
        low_rank(net(width=16, blocks=1), method=method, budget=0.01, example=(IMAGES[:1],))


@pytest.mark.parametrize("builder", [resnet_cifar, mobile_net])
def test_folding_takes_every_norm_out_and_leaves_the_outputs(builder):
    module = net(builder, width=8, blocks=1)
    with torch.no_grad():
        wanted = module(IMAGES)
        fold_norms(module, example_inputs(TASK))
        assert torch.allclose(module(IMAGES), wanted, atol=1e-4 * float(wanted.abs().max()))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    with pytest.raises(RequestError, match="no batch norm follows"):
        fold_norms(module, example_inputs(TASK))


def test_a_model_that_decides_by_its_data_is_refused_by_folding():
    class Deciding(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(RequestError, match="cannot trace this model"):
        fold_norms(Deciding(), example_inputs(TASK))


def test_fusing_leaves_fewer_operators_and_the_same_outputs(tmp_path):
    export_onnx(net(width=4, blocks=1), tmp_path / "m.onnx", example_inputs(TASK))
    example = (TASK.split("train").inputs[0][:4],)
    fuse_graph(tmp_path / "m.onnx", tmp_path / "f.onnx", example)
    before, after = (onnx.load(tmp_path / name).graph.node for name in ("m.onnx", "f.onnx"))
    assert len(after) < len(before)
    wanted, found = (outputs(path, feeds(path, [example])) for path in (tmp_path / "m.onnx", tmp_path / "f.onnx"))
    assert np.allclose(wanted, found, atol=1e-4)
    with pytest.raises(RequestError, match="nothing to fuse"):
        fuse_graph(tmp_path / "f.onnx", tmp_path / "g.onnx", example)


@pytest.mark.parametrize("builder", [resnet_cifar, mobile_net])
def test_aligned_channels_are_multiples_and_leave_the_outputs(builder):
    module = net(builder, width=8, blocks=2)
    prune_channels(module, IMAGES, 0.3, round_to=1)
    with torch.no_grad():
        wanted = module(IMAGES)
        align_channels(module, example_inputs(TASK), to=8)
        assert torch.allclose(module(IMAGES), wanted, atol=1e-4 * float(wanted.abs().max()))
    assert all(layer.out_channels % 8 == 0 for layer in module.modules() if isinstance(layer, nn.Conv2d))
    assert module.linear.out_features == 10
    with pytest.raises(RequestError, match="no channels can be filled up"):
        align_channels(module, example_inputs(TASK), to=8)


def test_a_coin_takes_about_one_bit():
    torch.manual_seed(0)
    weight = torch.where(torch.rand(64, 128) < 0.5, 1.0, -1.0)
    packed = ClusterWeights.pack({"w": weight})
    # a prefix code cannot spend less than a whole bit, and needs one more symbol to end
    assert weight.numel() / 8 <= len(packed["w.codes"]) < 1.5 * weight.numel() / 8
    assert torch.equal(ClusterWeights.unpack(packed)["w"], weight)
    assert math.prod(packed["w.shape"].tolist()) == weight.numel()
