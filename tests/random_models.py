"""Small nets drawn at random: modules with odd layers and outputs of any form, and graphs in any form of file."""

import numpy as np
import torch
from hypothesis import strategies as st
from onnx import helper
from onnx_models import FORMS, halved, save_graph
from torch import nn
from torch.nn import functional

SIZE = (1, 24, 24)
OUTPUTS = ("plain", "dict", "pair", "record", "pooled", "masked", "features")


class Standardised(nn.Conv2d):
    """A convolution with weight standardisation."""

    def forward(self, x):
        """Standardise, then convolve."""
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(
            x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-3), self.bias, self.stride, self.padding
        )


class Shuffle(nn.Module):
    """Channels in another order."""

    def forward(self, x):
        """Interleave two halves."""
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class Clipped(nn.Module):
    """A floor above zero."""

    def forward(self, x):
        """Keep what is above 0.3."""
        return x.clamp(min=0.3)


def part(kind, channels):
    """Return one layer from `channels` to `channels` channels."""
    return {
        "conv": lambda: nn.Conv2d(channels, channels, 3, padding=1),
        "grouped": lambda: nn.Conv2d(channels, channels, 3, padding=1, groups=2),
        "depthwise": lambda: nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        "standardised": lambda: Standardised(channels, channels, 3, padding=1),
        "transposed": lambda: nn.ConvTranspose2d(channels, channels, 3, padding=1, groups=2),
        "batch norm": lambda: nn.BatchNorm2d(channels),
        "group norm": lambda: nn.GroupNorm(2, channels),
        "shuffle": Shuffle,
        "clip": Clipped,
        "relu": lambda: nn.ReLU(inplace=True),
        "relu6": nn.ReLU6,
        "prelu": lambda: nn.PReLU(channels),
    }[kind]()


PARTS = ("conv", "grouped", "depthwise", "standardised", "transposed", "batch norm", "group norm", "shuffle", "clip",
         "relu", "relu6", "prelu")  # fmt: skip


class Net(nn.Module):
    """A stem, drawn layers, and a head whose output comes in the drawn form."""

    def __init__(self, kinds, channels, outputs, tied=False):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 5, stride=3)
        self.body = nn.Sequential(*(part(kind, channels) for kind in kinds))
        self.hidden, self.again = nn.Linear(channels * 4, 24), nn.Linear(24, 24)
        self.third = nn.Linear(24, 24)
        if tied:
            self.third.weight = self.again.weight
        self.head, self.form = nn.Linear(24, 10), outputs

    def forward(self, x):
        """Return the logits in the form that was drawn."""
        x = functional.adaptive_avg_pool2d(self.body(self.stem(x)), 2).flatten(1)
        x = torch.relu(self.again(torch.relu(self.hidden(x))))
        logits = self.head(x + self.third(x))
        return {
            "plain": lambda: logits,
            "dict": lambda: {"loss": None, "logits": logits},
            "pair": lambda: (logits, None),
            "record": lambda: {"hidden": (x, x), "logits": logits},
            "pooled": lambda: logits[:, :, None, None],
            "masked": lambda: torch.cat([logits, torch.full_like(logits[:, :2], float("-inf"))], 1),
            "features": lambda: (logits, x),
        }[self.form]()


def build(kinds, channels, outputs, tied=False, seed=0):
    """Return a drawn net whose norms have seen data."""
    torch.manual_seed(seed)
    net = Net(kinds, channels, outputs, tied)
    with torch.no_grad():
        net(torch.randn(64, *SIZE))
        for weight in net.parameters():
            weight.mul_(1.5)
    return net.eval()


modules = st.fixed_dictionaries(
    {
        "kinds": st.lists(st.sampled_from(PARTS), min_size=1, max_size=5),
        "channels": st.sampled_from([8, 12]),
        "outputs": st.sampled_from(OUTPUTS),
        "tied": st.booleans(),
        "seed": st.integers(0, 3),
    }
)


def activation(kind, opset, weights):
    """Return a node of an activation from `c` to `a`; bounds of Clip are tensors from opset 11 on."""
    if not kind.startswith("Clip"):
        return helper.make_node(kind, ["c"], ["a"])
    low, high = {"Clip6": (0.0, 6.0), "Clip floor": (0.3, 3.0), "Clip roof": (-2.0, -0.2)}[kind]
    if opset < 11:
        return helper.make_node("Clip", ["c"], ["a"], min=low, max=high)
    weights |= {"low": np.float32(low), "high": np.float32(high)}
    return helper.make_node("Clip", ["c", "low", "high"], ["a"])


def draw_graph(path, opset, form, names, act, middle, bias, half, batch, seed):
    """Write a drawn graph: a convolution, an activation, a middle part, and a Gemm whose bias has the drawn shape."""
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.normal(0, 0.2, (8, 1, 5, 5)).astype(np.float32),
        "b": rng.normal(0, 0.1, 8).astype(np.float32),
        "W": rng.normal(0, 0.05, (800, 10)).astype(np.float32),
        "B": rng.normal(0, 0.1, {"vector": 10, "row": (1, 10), "one": (1,)}[bias]).astype(np.float32),
    }
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2]), activation(act, opset, weights)]
    last = "a"
    if middle == "experts":
        weights |= {
            "E": rng.normal(0, 0.3, (8, 10, 10)).astype(np.float32),
            "K": rng.normal(0, 0.3, (8, 8, 1, 1)).astype(np.float32),
        }
        nodes += [helper.make_node("MatMul", ["a", "E"], ["m"]), helper.make_node("Conv", ["m", "K"], ["n"])]
        last = "n"
    if middle == "two":
        weights["K"] = rng.normal(0, 0.3, (8, 8, 1, 1)).astype(np.float32)
        nodes += [helper.make_node("Conv", ["a", "K"], ["n"])]
        last = "n"
    if middle == "norm":
        weights |= {one: rng.uniform(0.5, 1.5, 8).astype(np.float32) for one in ("g", "h", "mean", "var")}
        nodes += [helper.make_node("BatchNormalization", ["a", "g", "h", "mean", "var"], ["n"])]
        last = "n"
    nodes += [helper.make_node("Flatten", [last], ["f"]), helper.make_node("Gemm", ["f", "W", "B"], ["y"])]
    save_graph(path, nodes, weights, opset=opset, form=form, names=names, batch=batch)
    return halved(path, edges=half == "edges") if half != "none" and form == "initializer" else path


graphs = st.fixed_dictionaries(
    {
        "opset": st.sampled_from([9, 11, 13, 17, 21]),
        "form": st.sampled_from(FORMS),
        "names": st.booleans(),
        "act": st.sampled_from(["Relu", "Relu", "Relu", "Sigmoid", "LeakyRelu", "Clip6", "Clip floor", "Clip roof"]),
        "middle": st.sampled_from(["none", "experts", "norm", "two", "two"]),
        "bias": st.sampled_from(["vector", "row", "one"]),
        "half": st.sampled_from(["none", "none", "inside", "edges"]),
        "batch": st.sampled_from(["N", "N", 1, 4]),
        "seed": st.integers(0, 3),
    }
)
