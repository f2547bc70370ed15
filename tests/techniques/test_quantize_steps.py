"""Training under emulated rounding, mixed bits under a budget, equalisation, and layers kept in float."""

import copy
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from efflab import Context
from efflab.contracts.examples import calibration_batches, example_inputs
from efflab.foundation.errors import RequestError
from efflab.model_surgery.quantization.qdq import feeds, layers, outputs, relative_error
from efflab.models.mobile_net import mobile_net
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_of_artefact import count_onnx
from efflab.profiling.work_onnx import macs_by_node
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.equalize_layers import equalize_layers
from efflab.techniques.export_onnx import export_onnx
from efflab.techniques.quantize_aware import quantize_aware, round_weight
from efflab.techniques.quantize_mixed import QuantizeMixed
from efflab.techniques.quantize_static import quantize_static

TASK = DigitsClutter(**DigitsClutter.tiny)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def net(builder=resnet_cifar, **sizes):
    torch.manual_seed(0)
    module = builder(**(sizes or {"width": 4, "blocks": 1, "channels": 1}))
    module(torch.from_numpy(TASK.split("train").inputs[0][:64]))
    return module.eval()


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(net(), path, example_inputs(TASK))
    return path


def test_weights_are_rounded_on_the_grid_of_their_channel_and_gradients_pass():
    weight = torch.tensor([[7.0, -3.4, 0.6], [0.0, 0.0, 0.0]], requires_grad=True)
    rounded = round_weight(weight, 4)  # 7 steps to the largest: a step of 1
    assert rounded.tolist() == [[7.0, -3.0, 1.0], [0.0, 0.0, 0.0]]
    rounded.sum().backward()
    assert weight.grad.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("bits", [8, 4])
def test_training_ends_with_weights_on_the_grid_and_nothing_of_the_emulation(bits):
    module = net()
    with torch.no_grad():
        module.layer2[0].conv1.weight[:2] = 0
    names, before = list(module.state_dict()), copy.deepcopy(module.state_dict())
    batches = calibration_batches(TASK, 64)
    cost = quantize_aware(module, TASK, batches, bits, epochs=1.0, learning_rate=0.05, batch_size=64)
    assert sorted(module.state_dict()) == sorted(names)
    assert not any(layer._forward_pre_hooks for layer in module.modules())
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert torch.allclose(round_weight(layer.weight, bits), layer.weight, atol=1e-6)
    assert not torch.equal(before["linear.weight"], module.linear.weight)
    assert not module.layer2[0].conv1.weight[:2].any(), "what was pruned stays pruned"
    assert cost.training_macs > 0


def test_the_deployed_integers_are_the_trained_ones(tmp_path):
    module = net()
    quantize_aware(module, TASK, calibration_batches(TASK, 64), 8, epochs=1.0, batch_size=64)
    export_onnx(module, tmp_path / "f.onnx", example_inputs(TASK))
    quantize_static(tmp_path / "f.onnx", tmp_path / "q.onnx", calibration_batches(TASK, 64))
    stored = [numpy_helper.to_array(one) for one in onnx.load(tmp_path / "q.onnx").graph.initializer]
    weight = module.layer3[0].conv2.weight.detach().numpy()
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
    expected = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
    signs = [one for one in stored if one.shape == weight.shape and one.dtype == np.int8]
    # a batch norm of negative scale turns its channel's sign when it is folded
    assert any(np.array_equal(np.abs(one), np.abs(expected)) for one in signs)
    wanted = outputs(tmp_path / "f.onnx", feeds(tmp_path / "f.onnx", [(TASK.split("validation").inputs[0],)]))
    found = outputs(tmp_path / "q.onnx", feeds(tmp_path / "q.onnx", [(TASK.split("validation").inputs[0],)]))
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.9


def test_an_interrupted_training_under_rounding_goes_on_as_if_it_had_not_been(tmp_path):
    whole, parts = net(), net()
    settings = {"epochs": 2.0, "batch_size": 64, "learning_rate": 0.05}
    quantize_aware(whole, TASK, calibration_batches(TASK, 64), **settings)

    class CutError(Exception):
        pass

    def stop(done, total, note):
        if done == total:
            raise CutError

    with pytest.raises(CutError):
        quantize_aware(
            parts, TASK, calibration_batches(TASK, 64), checkpoint=tmp_path / "c.safetensors", report=stop, **settings
        )
    again = net()
    quantize_aware(again, TASK, calibration_batches(TASK, 64), checkpoint=tmp_path / "c.safetensors", **settings)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_macs_of_the_nodes_add_up_to_those_of_the_graph(graph):
    assert sum(macs_by_node(graph).values()) == count_onnx(graph)["macs"]
    assert {layer.node for layer in layers(graph)} <= macs_by_node(graph).keys()


def mixed(graph, folder, **settings):
    folder.mkdir()
    context = Context(TASK, 0, folder, baseline=net, card=lambda name: net())
    return QuantizeMixed(calibration_examples=64, **settings).apply(graph, context).model


def test_a_budget_of_bit_operations_is_met_by_leaving_the_most_sensitive_layers_alone(graph, tmp_path):
    whole = count_onnx(graph)["bit_operations"]
    shares = {}
    for budget in (0.5, 0.1, 0.04):
        shares[budget] = (
            count_onnx(mixed(graph, tmp_path / str(budget), bit_operations=budget))["bit_operations"] / whole
        )
        assert shares[budget] <= budget
    assert shares[0.5] > shares[0.1] > shares[0.04]
    told = {one.key: one.value for one in onnx.load(tmp_path / "0.1" / "model.onnx").metadata_props}
    assert set(json.loads(told["weight_bits"]).values()) <= {4, 8, 32}


def test_a_budget_that_four_bits_cannot_meet_is_refused(graph, tmp_path):
    with pytest.raises(
        RequestError, match=r"4 bits everywhere still take 0.03\d* of the float graph's bit operations, more than 0.01"
    ):
        mixed(graph, tmp_path / "m", bit_operations=0.01)


def test_a_budget_of_loss_is_judged_on_validation_examples(graph, tmp_path):
    split = TASK.split("validation")

    def quality(path):
        found = outputs(path, feeds(path, [(split.inputs[0],)]))
        return TASK.quality(TASK.scores(found, split.targets))

    made = mixed(graph, tmp_path / "m", loss=0.05)
    assert quality(made) >= quality(graph) - 0.05
    assert count_onnx(made)["bit_operations"] < count_onnx(graph)["bit_operations"]


def test_layers_kept_in_float_are_as_many_as_asked_and_lower_the_error(graph, tmp_path):
    images = feeds(graph, [(TASK.split("validation").inputs[0],)])
    errors, floats = [], []
    for count in (0, 2):
        made = tmp_path / f"q{count}.onnx"
        quantize_static(graph, made, calibration_batches(TASK, 64), per_channel=False, keep_float=count)
        errors.append(relative_error(outputs(graph, images), outputs(made, images)))
        kinds = {one.name: one.data_type for one in onnx.load(made).graph.initializer}
        floats.append([layer.weight for layer in layers(graph) if kinds.get(layer.weight) == TensorProto.FLOAT])
    assert [len(one) for one in floats] == [0, 2]
    assert errors[1] < errors[0]
    with pytest.raises(RequestError, match="keep_float is 99, but the graph has"):
        quantize_static(graph, tmp_path / "q.onnx", calibration_batches(TASK, 64), keep_float=99)


def test_equalised_layers_have_equal_ranges_and_the_same_outputs(graph, tmp_path):
    made = tmp_path / "e.onnx"
    assert equalize_layers(graph, made) >= 3
    images = [(TASK.split("validation").inputs[0][:32],)]
    wanted, found = outputs(graph, feeds(graph, images)), outputs(made, feeds(made, images))
    assert np.allclose(wanted, found, atol=1e-4 * np.abs(wanted).max())
    weights = {one.name: numpy_helper.to_array(one) for one in onnx.load(made).graph.initializer}
    every = {layer.node: layer for layer in layers(made)}
    nodes = [node for node in onnx.load(made).graph.node if node.name in every]
    first = next(node for node in nodes if "layer1" in node.input[1] and "conv1" in node.input[1])
    second = next(node for node in nodes if "layer1" in node.input[1] and "conv2" in node.input[1])
    ours = np.abs(weights[first.input[1]]).reshape(4, -1).max(axis=1)
    theirs = np.abs(np.moveaxis(weights[second.input[1]], 1, 0)).reshape(4, -1).max(axis=1)
    assert np.allclose(ours, theirs, rtol=1e-3)


def test_relu6_is_equalised_only_where_it_may_be_replaced(tmp_path):
    export_onnx(net(mobile_net, width=4, blocks=1, channels=1), tmp_path / "m.onnx", example_inputs(TASK))
    strict = equalize_layers_or_none(tmp_path / "m.onnx", tmp_path / "e.onnx")
    loose = equalize_layers(tmp_path / "m.onnx", tmp_path / "e.onnx", replace_clips=True)
    assert loose > strict
    clips = [
        sum(node.op_type == "Clip" for node in onnx.load(tmp_path / name).graph.node) for name in ("m.onnx", "e.onnx")
    ]
    assert clips[1] < clips[0]


def equalize_layers_or_none(source, target):
    try:
        return equalize_layers(source, target)
    except RequestError as refused:
        assert "replace_clips" in str(refused)
        return 0
