"""Fuses operators of an ONNX graph ahead of time (graph optimisation of ONNX Runtime; Chen et al. 2018, "TVM", 1802.04799)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from efflab.errors import RequestError
from efflab.technique import Context, Form, Result, Technique

if TYPE_CHECKING:
    import numpy as np

GRAPH = "model.onnx"
TOLERANCE = 1e-3  # of the largest output
Level = Literal["basic", "extended"]


class FuseGraph(Technique):
    """Let ONNX Runtime fold constants and fuse operators now rather than at every load; outputs stay what they were.

    ONNX Runtime does the same on loading, so times move little: it saves preparation, and shows what a graph becomes.
    `extended` makes operators of ONNX Runtime's own (a convolution with its activation), which other runtimes refuse.
    """

    takes: ClassVar[Form] = "onnx"
    gives: ClassVar[Form] = "onnx"
    after: ClassVar[tuple[str, ...]] = ("export_onnx",)
    rather_after: ClassVar[dict[str, str]] = {
        "quantize_static": "quantisers pass over fused operators, which then stay in float",
        "quantize_mixed": "quantisers pass over fused operators, which then stay in float",
        "quantize_weights": "quantisers pass over fused operators, which then stay in float",
        "quantize_dynamic": "quantisers pass over fused operators, which then stay in float",
        "equalize_layers": "fused operators hide the activation between two layers",
    }
    tiny: ClassVar[dict[str, Any]] = {"level": "extended"}

    level: Level = "extended"

    def apply(self, model: Any, context: Context) -> Result:
        """Fuse; raise RequestError if nothing changes, RuntimeError if the outputs do."""
        path = context.folder / GRAPH
        split = context.task.split("train")
        fuse_graph(model, path, tuple(array[:4] for array in split.inputs), self.level)
        return Result(path)


def fuse_graph(onnx_in: Path, onnx_out: Path, example: tuple[np.ndarray, ...], level: Level = "extended") -> None:
    """Write the fused graph of `onnx_in` to `onnx_out`. example: inputs on which both are run.

    Raises RequestError if there is nothing to fuse, RuntimeError if the outputs differ.
    """
    import numpy as np
    import onnx
    import onnxruntime

    from efflab.int8 import feeds, outputs
    from efflab.quiet import quiet

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if level == "basic" else levels.ORT_ENABLE_EXTENDED
    part = onnx_out.with_suffix(".part")
    options.optimized_model_filepath = str(part)
    with quiet():
        onnxruntime.InferenceSession(str(onnx_in), options, providers=["CPUExecutionProvider"])
    kinds = [sorted(node.op_type for node in onnx.load(str(path)).graph.node) for path in (onnx_in, part)]
    if kinds[0] == kinds[1]:
        part.unlink()
        raise RequestError(f"fuse_graph: there is nothing to fuse at level {level}")
    batch = feeds(onnx_in, [example])
    wanted, found = outputs(onnx_in, batch), outputs(part, batch)
    worst = float(np.abs(wanted - found).max())
    if not worst <= TOLERANCE * float(np.abs(wanted).max()) + 1e-5:
        part.unlink()
        raise RuntimeError(f"fusing changed the outputs by up to {worst:.3g}")
    part.replace(onnx_out)
