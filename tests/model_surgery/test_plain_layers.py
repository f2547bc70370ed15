"""Surgery touches only layers that compute what their type says, found on real inputs."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from efflab.foundation.errors import RequestError
from efflab.model_surgery.plain_layers import computes_as, plain_layers, take_slow_path
from efflab.model_surgery.pruning.slicing import is_sliceable, same_as_ignoring
from efflab.model_surgery.same_outputs import excess, same_outputs
from efflab.techniques.fold_norms import fold_norms
from efflab.techniques.low_rank import low_rank
from efflab.techniques.prune_channels import prune_channels

torch.manual_seed(0)
X = torch.randn(4, 3, 12, 12)


class Standardised(nn.Conv2d):
    """A convolution with weight standardisation (Qiao et al. 2019)."""

    def forward(self, x):
        """Standardise, then convolve."""
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        weight = weight / (weight.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Same(nn.Conv2d):
    """A convolution that pads by itself, as TensorFlow's SAME does."""

    def forward(self, x):
        """Pad on the right and below, then convolve."""
        return super().forward(functional.pad(x, (1, 2, 1, 2)))


class Renamed(nn.Linear):
    """A linear layer of another name."""


@pytest.mark.parametrize(
    ("layer", "plain"),
    [
        (nn.Conv2d(3, 4, 3), True),
        (Renamed(3, 4), True),
        (nn.BatchNorm2d(3), True),
        (nn.GroupNorm(1, 3), True),
        (Standardised(3, 4, 3), False),
        (Same(3, 4, 4), False),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), False),
        (nn.LazyLinear(4), True),
    ],
)
def test_a_layer_with_an_arithmetic_of_its_own_is_not_plain(layer, plain):
    assert is_sliceable(layer) is plain


def test_a_forward_set_on_the_object_is_its_own():
    layer = nn.Linear(3, 3)
    layer.forward = lambda x: x
    assert not computes_as(layer, (nn.Linear,))


def test_plain_layers_are_those_that_are_called_and_agree_with_their_formula():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.good, self.changed, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.changed.register_forward_hook(lambda _layer, _given, output: output * 2)

        def forward(self, x):
            x = self.changed(self.good(x)) @ self.unused.weight
            return self.attention(x, x, x)[0]

    net = Net()
    names = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    assert plain_layers(net, (torch.randn(2, 5, 6),), names) == {"good"}


def narrow(*convolutions):
    net = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return net.eval()


@pytest.mark.parametrize("odd", [Standardised(16, 16, 3, padding=1), Same(16, 16, 4)])
def test_low_rank_leaves_layers_with_a_forward_of_their_own_alone(odd):
    net = narrow(nn.Conv2d(3, 16, 3), odd)
    done = low_rank(net, energy=0.5, example=(X,))
    assert "0" in done
    assert "1" not in done
    assert net[1] is odd


def test_the_split_net_does_what_its_products_do():
    net = narrow(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1))
    kept, before = copy.deepcopy(net), net(X)
    with torch.no_grad():  # a kernel of rank 2, which splitting loses nothing of
        net[1].weight.copy_((torch.randn(16, 2) @ torch.randn(2, 144)).view(16, 16, 3, 3))
        before = net(X)
    assert "1" in low_rank(net, energy=0.99999, example=(X,))
    assert same_outputs(net(X), before, 1e-2)

    class Reads(nn.Module):  # its weight is taken once more beside the call, which splitting would not change
        def __init__(self):
            super().__init__()
            self.net = kept

        def forward(self, x):
            return self.net(x) + self.net[1].weight.sum() if hasattr(self.net[1], "weight") else self.net(x)

    with pytest.raises(RequestError, match="do not do what their products do"):
        low_rank(Reads().eval(), energy=0.5, example=(X,))


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_encoder_layer_runs_after_low_rank(batch_first):
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 64, batch_first=batch_first), 2).eval()
    x = torch.randn(3, 5, 16)
    done = low_rank(net, energy=0.4, example=(x,))
    assert {name.rpartition(".")[2] for name in done} <= {"linear1", "linear2"}
    with torch.inference_mode():
        fast = net(x)
    with torch.enable_grad():
        slow = net(x)
    assert same_outputs(fast, slow, 1e-4)
    untouched = nn.TransformerEncoderLayer(16, 2, 64)
    take_slow_path(untouched)
    assert untouched.activation_relu_or_gelu  # nothing was replaced in it, so it stays as quick as it was


class Turned(nn.Module):
    """Channels in another order between two layers, and a norm over several channels behind it."""

    def __init__(self, order, norm):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm, self.order = norm, order
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        """Convolve, reorder the channels, norm."""
        x = self.order(self.first(x))
        x = self.norm(x.movedim(1, -1)).movedim(-1, 1) if isinstance(self.norm, nn.LayerNorm) else self.norm(x)
        return self.last(torch.relu(self.second(torch.relu(x))).mean((2, 3)))


ORDERS = {
    "shuffle": lambda x: x.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2),
    "roll": lambda x: x.roll(1, 1),
    "flip": lambda x: x.flip(1),
    "permute": lambda x: x[:, torch.tensor([3, 1, 2, 0, 7, 5, 6, 4, 11, 9, 10, 8, 15, 13, 14, 12])],
}


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(4, 16), nn.LayerNorm(16), nn.BatchNorm2d(16), nn.InstanceNorm2d(16, affine=True)]
)
@pytest.mark.parametrize("order", ORDERS)
def test_channels_that_change_their_order_are_pruned_rightly_or_left_alone(order, norm):
    torch.manual_seed(1)
    net = Turned(ORDERS[order], copy.deepcopy(norm)).eval()
    with torch.no_grad():
        for layer in (net.norm,):
            layer.weight.uniform_(0.2, 2)
            layer.bias.uniform_(-1, 1)
    original = copy.deepcopy(net)
    try:
        structure = prune_channels(net, (X,), ratio=0.5, round_to=1)
    except RequestError:
        return
    assert same_as_ignoring(original, structure, (X,))
    # a norm that keeps some of its channels keeps those that its producer gives, in their new order
    if "first" in structure and "norm" in structure:
        gives = ORDERS[order](torch.arange(16.0).view(1, 16, 1, 1)).flatten().long().tolist()
        kept = set(structure["first"]["out"])
        assert {gives[place] for place in next(iter(structure["norm"].values()))} == kept


def test_group_norm_in_plain_order_is_still_pruned():
    torch.manual_seed(1)
    net = Turned(lambda x: x, nn.GroupNorm(4, 16)).eval()
    assert prune_channels(net, (X,), ratio=0.5, round_to=1)["norm"]


def test_a_kernel_that_two_norms_share_is_untied_by_folding():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(3, 4, 3, bias=False)
            self.b.weight = self.a.weight
            self.n, self.m = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.n(self.a(x)), self.m(self.b(x))

    net = Heads().eval()
    with torch.no_grad():
        net.n.running_var.fill_(0.2)
        net.m.running_mean.fill_(0.5)
    before = net(X)
    assert len(fold_norms(net, (X,))) == 2
    assert same_outputs(net(X), before, 1e-4)


def test_outputs_are_the_same_with_infinity_in_the_same_places_only():
    inf = float("inf")
    assert same_outputs({"a": torch.tensor([1.0, -inf]), "b": None}, (torch.tensor([1.0, -inf]),), 1e-3)
    assert excess(torch.tensor([1.0, 0.0]), torch.tensor([1.0, -inf]), 1e-3) == "NaN or infinity in other places"
    assert excess(torch.tensor([1.0, inf]), torch.tensor([1.0, 0.0]), 1e-3) == "NaN or infinity in other places"
    assert excess(torch.tensor([1.2]), torch.tensor([1.0]), 1e-3) == "up to 0.2"
    assert excess(torch.zeros(2, 3), torch.zeros(3, 2), 1e-3) == "other shapes"


def test_a_refusal_names_the_layers_that_were_left_alone():
    net = nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)).eval()
    for call in (lambda: fold_norms(net, (X,)), lambda: prune_channels(net, (X,))):
        with pytest.raises(RequestError, match=r"left alone: 0 \(Standardised\), whose weights are computed"):
            call()
