import pytest
import torch
from torch import nn

from efflab.model_surgery.pruning.slicing import channel_groups, is_depthwise, keep_channels, lowest_common_groups


def numbered(layer: nn.Module) -> nn.Module:
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.arange(tensor.numel()).view_as(tensor))
    return layer


def test_convolution():
    layer = numbered(nn.Conv2d(3, 4, 1))
    keep_channels(layer, out=[1, 3], into=[0, 2])
    assert layer.weight.flatten(1).tolist() == [[3.0, 5.0], [9.0, 11.0]]
    assert layer.bias.tolist() == [1.0, 3.0]
    assert (layer.in_channels, layer.out_channels) == (2, 2)
    assert layer(torch.ones(1, 2, 4, 4)).shape == (1, 2, 4, 4)


def test_transposed_convolution():
    layer = numbered(nn.ConvTranspose2d(2, 3, 1))
    keep_channels(layer, out=[0, 2], into=[1])
    assert layer.weight.flatten(1).tolist() == [[3.0, 5.0]]
    assert layer.bias.tolist() == [0.0, 2.0]


def test_grouped_convolution_keeps_the_same_positions_in_every_group():
    layer = numbered(nn.Conv2d(4, 4, 1, groups=2, bias=False))  # weight (4, 2): rows 0-1 and 2-3 are the groups
    keep_channels(layer, out=[0, 3], into=[1, 3])
    assert layer.weight.flatten().tolist() == [1.0, 7.0]
    assert layer(torch.ones(1, 2, 1, 1)).flatten().tolist() == [1.0, 7.0]


def test_grouped_convolution_refuses_uneven_groups():
    with pytest.raises(ValueError, match=r"groups would keep \[2, 0\]"):
        keep_channels(nn.Conv2d(4, 4, 1, groups=2), out=[0, 1])
    with pytest.raises(ValueError, match="same positions"):
        keep_channels(nn.Conv2d(4, 4, 1, groups=2), into=[0, 3])


def test_depthwise_convolution_by_either_side():
    for side in ("out", "into"):
        layer = numbered(nn.Conv2d(4, 4, 1, groups=4))
        assert is_depthwise(layer)
        keep_channels(layer, **{side: [0, 2]})
        assert layer.weight.flatten().tolist() == [0.0, 2.0]
        assert (layer.groups, layer.in_channels, layer.out_channels) == (2, 2, 2)


def test_linear():
    layer = numbered(nn.Linear(3, 2))
    keep_channels(layer, out=[1], into=[0, 1])
    assert layer.weight.tolist() == [[3.0, 4.0]]
    assert (layer.in_features, layer.out_features) == (2, 1)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(4), nn.BatchNorm1d(4, affine=False), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4)]
)
def test_norms(layer):
    keep_channels(numbered(layer), out=[0, 2])
    for name, tensor in layer.state_dict().items():
        if tensor.ndim:
            assert tensor.tolist() == [0.0, 2.0], name
    assert (
        layer.eval()(torch.ones(2, 2, 3, 3) if not isinstance(layer, nn.BatchNorm1d) else torch.ones(2, 2)).shape[1]
        == 2
    )


def test_layer_norm_and_prelu():
    norm = keep_channels(numbered(nn.LayerNorm((3, 4))), out=[1, 2])
    assert norm.normalized_shape == (3, 2)
    assert norm.weight.tolist() == [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]
    act = keep_channels(numbered(nn.PReLU(4)), out=[3])
    assert (act.weight.tolist(), act.num_parameters) == ([3.0], 1)
    shared = keep_channels(nn.PReLU(), out=[0])
    assert shared.weight.shape == (1,)


def test_frozen_weights_stay_frozen():
    layer = keep_channels(nn.Linear(4, 4).requires_grad_(False), out=[0])
    assert not layer.weight.requires_grad


def test_what_cannot_be_sliced_is_refused():
    with pytest.raises(ValueError, match="Embedding cannot be sliced"):
        keep_channels(nn.Embedding(3, 4), out=[0])
    with pytest.raises(IndexError):
        keep_channels(nn.Linear(3, 4), out=[4])


def test_blocks_of_channels():
    assert channel_groups(nn.Conv2d(8, 8, 1, groups=2)) == 2
    assert channel_groups(nn.Conv2d(8, 8, 1, groups=8)) == 1
    assert lowest_common_groups([nn.GroupNorm(4, 12), nn.Conv2d(12, 12, 1, groups=6), nn.ReLU()]) == 12
