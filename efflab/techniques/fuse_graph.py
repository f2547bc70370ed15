"""Fuses operators of an ONNX graph ahead of time (graph optimisation of ONNX Runtime; Chen et al. 2018, "TVM", 1802.04799)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

GRAPH = "model.onnx"
TOLERANCE = 1e-3  # of the largest output
Level = Literal["basic", "extended"]


class FuseGraph(Technique):
    """Let ONNX Runtime fold constants and fuse operators now rather than at every load; outputs stay what they were.

    ONNX Runtime does the same on loading, so times move little: it saves preparation, and shows what a graph becomes.
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
    least_sqnr_db: ClassVar[float | None] = 20.0  # outputs stay what they were, in 16 bits up to rounding
    tiny: ClassVar[dict[str, Any]] = {"level": "extended"}

    level: Annotated[
        Level,
        Field(
            description="ONNX Runtime's optimisation level; `extended` also makes operators of ONNX Runtime's own, "
            "which other runtimes refuse."
        ),
    ] = "extended"

    def apply(self, model: Any, context: Context) -> Result:
        """Fuse; raise RequestError if nothing changes, RuntimeError if the outputs do."""
        from efflab.contracts.examples import calibration_batches

        path = context.folder / GRAPH
        fuse_graph(model, path, next(calibration_batches(context.task, 4)), self.level)
        return Result(path)


def fuse_graph(onnx_in: Path, onnx_out: Path, example: tuple[np.ndarray, ...], level: Level = "extended") -> None:
    """Write the fused graph of `onnx_in` to `onnx_out`. example: inputs on which both are run.

    Raises RequestError if there is nothing to fuse, RuntimeError if the outputs differ.
    """
    import onnx
    import onnxruntime

    from efflab.foundation.quiet import quiet
    from efflab.model_surgery.graphs.onnx_graph import feed_of, open_graph
    from efflab.model_surgery.same_outputs import excess

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
    sessions = [open_graph(file) for file in (part, onnx_in)]
    fused, plain = (one.run(None, feed_of(one, example)) for one in sessions)
    found = excess(fused, plain, TOLERANCE)
    if found:
        part.unlink()
        raise RuntimeError(f"fusing changed the outputs: {found}")
    part.replace(onnx_out)
