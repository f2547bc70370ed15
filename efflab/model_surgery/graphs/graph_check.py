"""Checks an exported ONNX graph against the module that it was made of, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.interface import fixed_batch, graph_ports, leaves

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def check_graph(
    module: torch.nn.Module, path: Path, example: tuple[Tensor, ...], tolerance: float, axes: Sequence[int] = ()
) -> None:
    """Compare graph and module on a batch of another size than the exported one, where the graph takes one.

    tolerance: share of the largest output by which they may differ. axes: further free ones, which get other lengths, too.
    Raises RuntimeError if they differ more.
    """
    import torch

    from efflab.model_surgery.graphs.onnx_graph import feed_of, open_graph
    from efflab.model_surgery.same_outputs import excess

    session = open_graph(path)
    fixed = fixed_batch(graph_ports(path)[0])
    inputs = example if fixed else tuple(torch.cat([x, x[:1]]) for x in example)
    for axis in axes:  # the last place twice: a mask or a number that holds for one place holds for two
        inputs = tuple(torch.cat([x, x.narrow(axis, -1, 1)], axis) if axis < x.ndim else x for x in inputs)
    with torch.no_grad():
        expected = module(*inputs)
    actual = session.run(None, feed_of(session, tuple(x.numpy() for x in inputs)))
    found = excess(actual, _of_tensors(expected), tolerance)
    if found:
        raise RuntimeError(f"the exported graph differs from the module: {found}")


def _of_tensors(outputs: Any) -> list[Any]:
    """Return the outputs that a graph has, too: plain numbers of a module are none."""
    import torch

    return [one.float() if one.is_floating_point() else one for one in leaves(outputs) if isinstance(one, torch.Tensor)]
