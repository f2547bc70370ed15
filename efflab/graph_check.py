"""Checks an exported ONNX graph against the module that it was made of, on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def check_graph(module: torch.nn.Module, path: Path, example: tuple[Tensor, ...], tolerance: float) -> None:
    """Compare graph and module on a batch of another size than the exported one.

    tolerance: share of the largest output by which they may differ. Raises RuntimeError if they differ more.
    """
    import torch

    from efflab.onnx_graph import open_graph

    session = open_graph(path)
    inputs = [torch.cat([x, x[:1]]) for x in example]
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(module(*inputs))
    names = [value.name for value in session.get_inputs()]
    actual = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
    for graph_output, output in zip(actual, expected, strict=True):
        worst = float((torch.from_numpy(graph_output).float() - output.float()).abs().max())
        if not worst <= tolerance * float(output.abs().max()) + 1e-5:
            raise RuntimeError(f"the exported graph differs from the module by up to {worst:.3g}")
