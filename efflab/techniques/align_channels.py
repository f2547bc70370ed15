"""Fills channels up to a multiple that the processor's vectors like (channel alignment; Shen et al. 2022, HALP, 2110.10811)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor, nn

Widths = dict[str, dict[str, int]]  # layer -> {"out": channels then, "in": channels then}
TOLERANCE = 1e-4  # of the largest output


class AlignChannels(Technique):
    """Add channels of zeros until their number is a multiple of `to`; outputs stay what they were (after HALP, Shen 2022).

    Pruning to odd numbers of channels can be slower than pruning less, since vectors of 8 or 16 numbers run half empty;
    this undoes it where `round_to` was not used. It adds MACs and bytes, and pays only where measured time falls.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "pruning afterwards takes the filled channels out again",
        "finetune": "training afterwards fills the zeros, which then are worth no less than other channels",
    }
    least_sqnr_db: ClassVar[float | None] = 20.0  # outputs stay what they were, in 16 bits up to rounding
    tiny: ClassVar[dict[str, Any]] = {"to": 16}

    to: Annotated[
        int, Field(ge=2, le=256, description="Multiple to which the number of channels of each layer is filled up.")
    ] = 8

    def apply(self, model: Any, context: Context) -> Result:
        """Add channels; raise RequestError if all are aligned, or none can be filled up."""
        from efflab.contracts.examples import example_inputs

        return Result(model, align_channels(model, example_inputs(context.task), self.to))

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Widen the layers that `structure` names."""
        for name, widths in structure.items():
            _widen(module.get_submodule(name), widths.get("out"), widths.get("in"))
        return module


def align_channels(module: nn.Module, example: tuple[Tensor, ...], to: int = 8) -> Widths:
    """Fill channels up in place and return the new widths of each layer that changed.

    example: inputs of one small batch, on which the outputs are compared; a group of coupled channels that would change
    them stays as it is. Raises RequestError if nothing is to be done.
    """
    import torch

    from efflab.contracts.examples import like_parameters
    from efflab.foundation.quiet import quiet
    from efflab.foundation.step_errors import reason
    from efflab.model_surgery.pruning.dependency_groups import graph_of

    inputs = tuple(like_parameters(one, module) for one in example)
    module.eval()
    try:
        with quiet():
            graph = graph_of(copy.deepcopy(module), inputs)
    except Exception as error:  # whatever the model's own code raises
        raise RequestError(f"align_channels cannot trace this model{reason(error, module)}") from error
    names = {layer: name for name, layer in graph.model.named_modules()}
    kinds = [torch.nn.modules.conv._ConvNd, torch.nn.Linear]
    done: Widths = {}
    for group in graph.get_all_groups(root_module_types=kinds):
        wanted = _aligned(graph, group, names, to)
        if wanted and _same(module, wanted, inputs):
            for name, widths in wanted.items():
                _widen(module.get_submodule(name), widths.get("out"), widths.get("in"))
                done.setdefault(name, {}).update(widths)
    if not done:
        raise RequestError(f"align_channels: no channels can be filled up to a multiple of {to}")
    return done


def _aligned(graph: Any, group: Any, names: dict[Any, str], to: int) -> Widths:
    """Return the widths that align a group of coupled channels; none where they are aligned, outputs, or not plain."""
    widths: Widths = {}
    consumed = False
    for dep, indices in group:
        layer = dep.target.module
        if layer not in names:
            if type(layer).__name__ not in ("_ElementWiseOp", "ElementWiseOp"):
                return {}  # reshapes, splits and joins shift channels
            continue
        out = bool(graph.is_out_channel_pruning_fn(dep.handler))
        count = graph.get_out_channels(layer) if out else graph.get_in_channels(layer)
        if list(indices) != list(range(count)) or not _widenable(layer) or count % to == 0:
            return {}
        consumed |= not out
        widths.setdefault(names[layer], {})["out" if out else "in"] = -(-count // to) * to
    return widths if consumed else {}


def _widenable(layer: nn.Module) -> bool:
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from efflab.model_surgery.plain_layers import computes_as
    from efflab.model_surgery.pruning.slicing import is_depthwise

    if computes_as(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        conv: Any = layer
        return conv.groups == 1 or is_depthwise(conv)
    return computes_as(layer, (nn.Linear, _BatchNorm))


def _same(module: nn.Module, widths: Widths, inputs: tuple[Tensor, ...]) -> bool:
    """Say whether the widened network runs and gives what the network gives."""
    import torch

    from efflab.model_surgery.same_outputs import COARSE, same_outputs

    wide = copy.deepcopy(module)
    with torch.no_grad():
        try:
            for name, one in widths.items():
                _widen(wide.get_submodule(name), one.get("out"), one.get("in"))
            found = wide(*inputs)
        except Exception:  # the layers do not fit each other; what they raise is theirs
            return False
        wanted = module(*inputs)
    return same_outputs(found, wanted, TOLERANCE if inputs[0].dtype == torch.float32 else COARSE)


def _widen(layer: Any, out: int | None, into: int | None) -> None:
    """Add output and input channels of zeros to a layer, in place."""
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd

    from efflab.model_surgery.pruning.slicing import is_depthwise

    if isinstance(layer, _BatchNorm):
        width = out or into
        _pad(layer, ("weight", "bias", "running_mean"), width)
        _pad(layer, ("running_var",), width, fill=1.0)
        layer.num_features = width or layer.num_features
    elif is_depthwise(layer):
        width = out or into
        _pad(layer, ("weight", "bias"), width)
        layer.groups = layer.in_channels = layer.out_channels = width or layer.out_channels
    else:
        outs, ins = ("out_channels", "in_channels") if isinstance(layer, _ConvNd) else ("out_features", "in_features")
        if out:
            _pad(layer, ("weight", "bias"), out)
            setattr(layer, outs, out)
        if into:
            _pad(layer, ("weight",), into, dim=1)
            setattr(layer, ins, into)


def _pad(layer: Any, names: tuple[str, ...], width: int | None, dim: int = 0, fill: float = 0.0) -> None:
    import torch
    from torch import nn

    for name in names:
        tensor = getattr(layer, name, None)
        if tensor is None or width is None:
            continue
        more = list(tensor.shape)
        more[dim] = width - more[dim]
        wide = torch.cat([tensor.detach(), torch.full(more, fill, dtype=tensor.dtype, device=tensor.device)], dim=dim)
        setattr(layer, name, nn.Parameter(wide) if isinstance(tensor, nn.Parameter) else wide)
