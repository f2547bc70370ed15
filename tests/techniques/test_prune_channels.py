import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from efflab.foundation.errors import RequestError
from efflab.model_surgery.pruning.channel_ranking import drops_of
from efflab.model_surgery.pruning.dependency_groups import graph_of, groups_of, root_of
from efflab.model_surgery.pruning.slicing import ignoring, keep_structure
from efflab.models.resnet_cifar import resnet_cifar
from efflab.techniques.prune_channels import PruneChannels, _kind, prune_channels


def small(channels: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten(), nn.Linear(channels * 4, 5)
    ).eval()


EXAMPLE = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("importance", ["l1", "l2", "bn_scale", "lamp", "taylor"])
def test_drops_the_filters_that_matter_least(importance):
    module = small()
    with torch.no_grad():
        for layer in (module[0], module[1]):
            layer.weight.fill_(1.0)
        module[4].weight.fill_(1.0)
        for channel in (1, 4, 5, 6):
            module[0].weight[channel] *= 0.1
            module[1].weight[channel] *= 0.1

    def gradients(trial: nn.Module) -> None:
        for parameter in trial.parameters():
            parameter.grad = torch.ones_like(parameter)

    structure = prune_channels(module, EXAMPLE, 0.5, importance, round_to=1, gradients=gradients)
    assert structure["0"] == {"out": [0, 2, 3, 7]}
    assert structure["1"] == {"out": [0, 2, 3, 7]}
    # 2x2 pixels a channel stand behind each other after flattening
    assert structure["4"] == {"in": [*range(4), *range(8, 16), *range(28, 32)]}
    assert module[0].weight.shape == (4, 1, 3, 3)
    assert module(EXAMPLE).shape == (2, 5)


def test_counts_by_hand():
    module = resnet_cifar(16, 1, 1)
    prune_channels(module, torch.randn(2, 1, 24, 24), 0.5)
    assert [module.conv1.out_channels, module.layer2[0].conv1.out_channels, module.linear.in_features] == [8, 16, 32]
    assert module.linear.out_features == 10
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in resnet_cifar(8, 1, 1).parameters())


@pytest.mark.parametrize(
    ("ratio", "round_to", "kept"), [(0.9, 1, 1), (0.3, 1, 7), (0.25, 4, 8), (0.5, 4, 4), (0.8, 8, 8)]
)
def test_rounds_to_the_nearest_multiple_and_keeps_one(ratio, round_to, kept):
    root = ("layer", True)
    scores = {root: (torch.arange(10.0), 1)}
    drops = drops_of(scores, {root: 10}, ratio, round_to)
    assert drops[root] == list(range(10 - kept))


def test_global_ranking_takes_from_the_least_important_layer_but_leaves_a_tenth():
    weak, strong = ("weak", True), ("strong", True)
    scores = {weak: (torch.full((20,), 0.1), 1), strong: (torch.ones(20), 1)}
    drops = drops_of(scores, {weak: 20, strong: 20}, 0.5, kinds={weak: "a", strong: "a"})
    assert {root: len(dropped) for root, dropped in drops.items()} == {weak: 18, strong: 2}


def test_groups_of_different_kinds_are_ranked_apart():
    weak, strong, third = ("weak", True), ("strong", True), ("third", True)
    scores = {root: (torch.arange(1.0, 11) * scale, 1) for root, scale in ((weak, 0.01), (strong, 1), (third, 100))}
    drops = drops_of(scores, dict.fromkeys(scores, 10), 0.5, kinds={weak: "a", strong: "b", third: "b"})
    # weak loses its own half; of the two others together the ten least are all of strong but one, which stays
    assert {root: len(dropped) for root, dropped in drops.items()} == {weak: 5, strong: 9, third: 1}


def test_inner_channels_of_blocks_are_of_one_kind_and_each_residual_stream_of_its_own():
    module = resnet_cifar(8, 2, 1)
    graph = graph_of(module, (torch.randn(2, 1, 24, 24),))
    names = {layer: name for name, layer in module.named_modules()}
    kinds = {root_of(graph, group, names)[0]: _kind(graph, group, names) for group in groups_of(graph)}
    inner = {kind for name, kind in kinds.items() if name.endswith("conv1") and name != "conv1"}
    assert len(inner) == 1
    assert kinds["conv1"] not in inner


@pytest.mark.parametrize("scope", ["isomorphic", "global"])
def test_ranking_over_layers_removes_the_share_that_was_asked_for(scope):
    torch.manual_seed(0)
    module = resnet_cifar(8, 2, 1)
    before = sum(layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d))
    prune_channels(module, torch.randn(2, 1, 24, 24), 0.3, scope=scope, round_to=1)
    after = sum(layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d))
    assert after / before == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_gives_exactly_the_network_that_ignores_the_dropped_channels(shortcut, scope):
    torch.manual_seed(0)
    module = resnet_cifar(8, 2, 1, shortcut=shortcut).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.bias, -1, 1)
            nn.init.uniform_(layer.weight, 0.5, 2)
    original = copy.deepcopy(module)
    inputs = torch.randn(3, 1, 24, 24)
    structure = prune_channels(module, inputs, 0.5, "l2", scope, steps=2)
    assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in original.parameters())
    ignoring(original, structure)
    with torch.no_grad():
        torch.testing.assert_close(module(inputs), original(inputs), rtol=1e-3, atol=1e-4)


def test_padded_shortcuts_keep_their_channels():
    module = resnet_cifar(8, 1, 1, shortcut="A")
    structure = prune_channels(module, torch.randn(2, 1, 24, 24), 0.5)
    assert [module.conv1.out_channels, module.layer2[0].conv2.out_channels] == [8, 16]
    assert len(structure["layer2.0.conv1"]["out"]) == 8


class Unusual(nn.Module):
    """Grouped and depthwise convolutions, a concatenation, PReLU, and channels that meet in a softmax."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.act = nn.PReLU(8)
        self.side = nn.Conv2d(1, 8, 1)
        self.mixed = nn.Conv2d(16, 8, 1)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        y = self.act(self.depthwise(self.grouped(self.stem(x))))
        y = torch.cat([y, self.side(x)], 1)
        return self.last(self.mixed(y).softmax(1)).mean((2, 3))


def test_unusual_layers():
    torch.manual_seed(0)
    module = Unusual().eval()
    original = copy.deepcopy(module)
    structure = prune_channels(module, torch.randn(2, 1, 6, 6), 0.5, round_to=2)
    assert module.mixed.out_channels == 8, "a softmax over channels needs them all"
    assert module.side.out_channels == 4
    assert module.grouped.out_channels == module.depthwise.groups == module.act.num_parameters == 4
    rebuilt = keep_structure(Unusual(), structure)
    rebuilt.load_state_dict(module.state_dict())
    inputs = torch.randn(3, 1, 6, 6)
    ignoring(original, structure)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(inputs), module(inputs))
        torch.testing.assert_close(original(inputs), module(inputs), rtol=1e-3, atol=1e-4)


@settings(max_examples=8, deadline=None)
@given(first=st.floats(0.3, 0.7), second=st.floats(0.3, 0.7), seed=st.integers(0, 5))
def test_two_prunings_compose(first, second, seed):
    module = small(16)
    one = prune_channels(module, EXAMPLE, first, "random", round_to=1, seed=seed)
    two = prune_channels(module, EXAMPLE, second, "random", round_to=1, seed=seed + 1)
    rebuilt = keep_structure(keep_structure(small(16), one), two)
    for name, tensor in module.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[name], tensor)


def test_random_follows_the_seed():
    one, same, other = (prune_channels(small(16), EXAMPLE, 0.5, "random", seed=seed) for seed in (0, 0, 1))
    assert one == same != other


def test_control_is_random_and_has_none_itself():
    control = PruneChannels(ratio=0.3, importance="l1").control()
    assert control == PruneChannels(ratio=0.3, importance="random")
    assert control is not None
    assert control.control() is None


@pytest.mark.parametrize(
    ("module", "importance", "message"),
    [
        (small(4), "l2", "round_to 4"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), "l2", "no layer of this model"),
        (nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(32, 5)), "bn_scale", "batch norm"),
    ],
)
def test_says_why_nothing_goes(module, importance, message):
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(RequestError, match=message):
        prune_channels(module, EXAMPLE, 0.5, importance)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_an_untraceable_model_is_refused_in_one_sentence():
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("no such thing")

    with pytest.raises(RequestError, match="cannot trace this model"):
        prune_channels(Broken(), EXAMPLE)
