"""Which layers compute just what their type says: those alone can be replaced, folded or resized by what the type says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from efflab.model_surgery.same_outputs import same_outputs, slack_of

# where a layer's arithmetic stands; a class that defines one of these has an arithmetic of its own
OWN = ("forward", "_conv_forward", "__call__", "__getattr__", "weight", "bias")


def computes_as(layer: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Say whether a layer's arithmetic is that of one of `kinds`: of the type, or of a subclass that leaves it alone.

    A subclass with a forward of its own (weight standardisation, "same" padding), a parametrised weight and a forward that
    was set on the object do not.
    """
    if not isinstance(layer, kinds) or any(name in vars(layer) for name in OWN) or hasattr(layer, "parametrizations"):
        return False
    foreign = [one for one in type(layer).__mro__ if not one.__module__.startswith("torch.nn.") and one is not object]
    return not any(name in vars(one) for one in foreign for name in OWN)


def plain_layers(module: nn.Module, inputs: tuple[Tensor, ...], names: Iterable[str]) -> set[str]:
    """Return which of the named convolutions and linear layers are called, and give on real inputs what their type says.

    inputs: one small batch. Layers whose weights the model takes without calling them are left out, such as the output
    projection of nn.MultiheadAttention. Runs the model once, in evaluation mode.
    """
    called: dict[str, bool] = {}
    layers: dict[str, Any] = {name: module.get_submodule(name) for name in names}

    def watch(name: str) -> Any:
        def hook(layer: Any, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            right = len(given) == 1 and not named and _agrees(layer, given[0], output)
            called[name] = called.get(name, True) and right

        return hook

    handles = [layer.register_forward_hook(watch(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name for name, right in called.items() if right}


def _agrees(layer: Any, given: Tensor, output: Any) -> bool:
    try:
        expected = _formula(layer, given)
    except (RuntimeError, TypeError, ValueError):
        return False
    return isinstance(output, Tensor) and same_outputs(output, expected, slack_of(given.dtype))


def _formula(layer: Any, given: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(given, layer.weight, layer.bias)
    call = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[layer.weight.ndim]
    return call(given, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def left_alone(module: nn.Module) -> str:
    """Return the end of a sentence that names layers with an arithmetic of their own, which surgery leaves alone, or ""."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, _NormBase, nn.GroupNorm, nn.LayerNorm)
    own = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, kinds) and not computes_as(layer, kinds)
    ]
    if not own:
        return ""
    shown = ", ".join(f"{name} ({type(layer).__name__})" for name, layer in own[:3]) + (
        " and others" if len(own) > 3 else ""
    )
    return f"; left alone: {shown}, whose weights are computed or whose forward is their own"


def take_slow_path(module: nn.Module) -> None:
    """Keep nn.TransformerEncoderLayer from its fast path where layers in it were replaced, in place.

    The fast path takes the weights of the layers directly, and does not call what stands in their place. PyTorch asks each
    layer whether its activation is one that the fast path knows (torch/nn/modules/transformer.py); here the answer is no.
    """
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoderLayer):
            kept = all(type(getattr(part, name)) is nn.Linear for name in ("linear1", "linear2"))
            if not kept:
                part.activation_relu_or_gelu = 0
