"""Sub-nets: the structure of the family's own members, slices of the large net's weights, and what is refused."""

import copy
import json

import pytest
import torch
from torch import nn

from efflab.foundation.errors import RequestError
from efflab.model_surgery.adaptive.subnets import cut, keep_subnet, run_subnet, subnet, take
from efflab.models.mobile_net import mobile_net
from efflab.models.resnet_cifar import resnet_cifar
from efflab.models.vision_transformer import vision_transformer

GREY, COLOUR = (torch.randn(2, 1, 24, 24),), (torch.randn(2, 3, 32, 32),)


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def perceptron(wide: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, wide), nn.ReLU(), nn.Linear(wide, 2))


@pytest.mark.parametrize("width", [3, 4, 6, 8, 11])
def test_a_width_of_digits_is_the_member_of_that_width(width):
    large = resnet_cifar(16, 1, 1)
    small = keep_subnet(copy.deepcopy(large), cut(large, GREY, width / 16))
    assert shapes(small) == shapes(resnet_cifar(width, 1, 1))


@pytest.mark.parametrize(("width", "blocks"), [(8, None), (4, None), (16, 2), (8, 2), (8, 1)])
def test_a_size_of_cifar_is_the_member_of_that_width_and_depth(width, blocks):
    large = resnet_cifar(16, 3, 3)
    structure = cut(large, COLOUR, width / 16, blocks)
    small = keep_subnet(copy.deepcopy(large), json.loads(json.dumps(structure)))
    assert shapes(small) == shapes(resnet_cifar(width, blocks or 3, 3))
    assert small(*COLOUR).shape == (2, 10)


def test_the_first_channels_stay_and_ends_are_spared():
    net = perceptron()
    before = [tensor.detach().clone() for tensor in net.parameters()]
    structure = cut(net, (torch.randn(2, 3),), 0.5)
    assert structure == {"channels": {"0": {"out": [0, 1]}, "2": {"in": [0, 1]}}}
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    keep_subnet(net, structure)
    wanted = [before[0][:2], before[1][:2], before[2][:, :2], before[3]]
    assert all(torch.equal(a, b) for a, b in zip(wanted, net.parameters(), strict=True))


@pytest.mark.parametrize(("width", "kept"), [(0.01, 1), (0.3, 2), (0.35, 2), (0.45, 3), (0.9, 5)])
def test_channels_round_to_the_nearest_and_one_stays(width, kept):
    structure = cut(perceptron(6), (torch.randn(2, 3),), width)
    assert structure["channels"]["0"]["out"] == list(range(kept))


def test_channels_that_lie_behind_each_other_after_flattening():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 5))
    one = subnet(net, cut(net, (torch.randn(2, 1, 4, 4),), 0.5))
    assert one.where["3.weight"] == (slice(0, 5), slice(0, 8))


NETS = {
    "resnet": (lambda: resnet_cifar(8, 2, 1), 0.5, 1),
    "depthwise": (lambda: mobile_net(8, 1, 1), 0.6, None),
    "transformer": (lambda: vision_transformer(32, 2, channels=1), 0.5, None),
}


@pytest.mark.parametrize("name", NETS)
def test_a_subnet_computes_with_the_large_nets_weights_and_trains_them(name):
    make, width, blocks = NETS[name]
    torch.manual_seed(0)
    large = make().eval()
    structure = cut(large, GREY, width, blocks)
    one = subnet(large, structure)
    parameters = dict(large.named_parameters())
    small = keep_subnet(copy.deepcopy(large), structure)
    for key, parameter in small.named_parameters():
        assert torch.equal(take(parameters[key], one.where[key]), parameter)
    outputs = run_subnet(one, parameters, *GREY)
    assert torch.equal(outputs, small(*GREY))
    outputs.square().sum().backward()
    small(*GREY).square().sum().backward()
    for key, parameter in small.named_parameters():
        full = parameters[key].grad
        assert full is not None
        inside = take(full, one.where[key])
        assert torch.allclose(inside, parameter.grad, rtol=1e-4, atol=1e-5)
        # what the sub-net does not hold is not trained by it
        assert float(full.abs().sum()) == pytest.approx(float(inside.abs().sum()), rel=1e-5)


def test_positions_where_a_part_is_no_slice():
    net = nn.Sequential(nn.Conv2d(4, 8, 1, groups=2), nn.ReLU(), nn.Conv2d(8, 3, 1))
    structure = {"channels": {"0": {"out": [0, 1, 4, 5]}, "2": {"in": [0, 1, 4, 5]}}}
    one = subnet(net, structure)
    assert isinstance(one.where["2.weight"], torch.Tensor)
    kept = net[2].weight[:, [0, 1, 4, 5]]
    assert torch.equal(take(net[2].weight, one.where["2.weight"]), kept)
    inputs = torch.randn(2, 4, 5, 5)
    assert torch.equal(
        run_subnet(one, dict(net.named_parameters()), inputs), keep_subnet(copy.deepcopy(net), structure)(inputs)
    )


class Stages(nn.Module):
    """Two blocks of which the second widens, so that the head does not fit the first."""

    stages = ("blocks",)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.blocks(x))
        return y


@pytest.mark.parametrize(
    ("net", "inputs", "width", "blocks", "says"),
    [
        (resnet_cifar(4, 2, 1), GREY, 1.0, 2, "cannot keep 2 blocks a stage of a model that has 2"),
        (resnet_cifar(4, 2, 1), GREY, 1.0, None, "nothing to cut"),
        (mobile_net(4, 1, 1), GREY, 1.0, 1, "names no `stages`"),
        (Stages(), (torch.randn(2, 3),), 1.0, 1, "what is left does not run"),
        (nn.Linear(3, 2), (torch.randn(2, 3),), 0.5, None, "no channels to cut at width 0.5"),
        (resnet_cifar(4, 1, 1), GREY, 0.99, None, "no channels to cut at width 0.99"),
        (nn.Linear(5, 2), (torch.randn(2, 3),), 0.5, None, "cannot trace this model"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_the_name_of_who_asks(net, inputs, width, blocks, says):
    with pytest.raises(RequestError, match=says) as caught:
        cut(net, inputs, width, blocks, who="somebody")
    assert str(caught.value).startswith("somebody")
