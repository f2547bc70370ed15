"""Exports the model to ONNX, batch norms folded into convolutions (Jacob et al. 2018, arXiv 1712.05877, 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError, Unavailable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GRAPH = "model.onnx"


class ExportOnnx(Technique):
    """Write the model as an ONNX graph with a free batch size, its batch norms folded (Jacob et al. 2018).

    The way to ONNX Runtime, OpenVINO and their quantisers. Folding matters: an integer graph with loose batch norms is
    slower than the float one.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "onnx"
    converts: ClassVar[bool] = True
    supports: ClassVar[bool] = True
    least_sqnr_db: ClassVar[float | None] = 20.0  # outputs stay what they were, in 16 bits up to rounding
    tiny: ClassVar[dict[str, Any]] = {}

    opset: Annotated[
        int, Field(ge=18, le=23, description="Version of the ONNX operator set in which the graph is written.")
    ] = 20

    def apply(self, model: Any, context: Context) -> Result:
        """Export and check the graph against the module; raise RuntimeError if their outputs differ."""
        from efflab.contracts.examples import example_inputs, input_names

        path, task = context.folder / GRAPH, context.task
        face = task.interface
        names = [port.name.replace(".", "_") for port in face.outputs] if len(face.outputs) > 1 else None
        inputs, axes = example_inputs(task), task.free_axes()
        export_onnx(model, path, inputs, self.opset, face.batch is not None, names, input_names(task), axes)
        return Result(path)


def _forget_sources(model: Any) -> None:
    """Take the exporter's notes out: source lines and paths of this machine, more bytes than a small net's weights."""
    graph = model.graph
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


def export_onnx(
    module: torch.nn.Module,
    path: Path,
    example: Tensor | tuple[Tensor, ...],
    opset: int = 20,
    fixed: bool = False,
    names: list[str] | None = None,
    inputs_named: Sequence[str] = (),
    axes: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Write `module` to the ONNX file `path`, its first axis free; one file, unless it has more than 1.5 GB.

    example: inputs of a batch of at least 2. fixed: the module takes batches of this size only. names: of its outputs, where
    it gives several. inputs_named: names of its inputs; without them, those of its arguments. axes: further free axes of all
    inputs, such as {1: "length"}. 16-bit modules take and give float32 at their edges.
    Raises RequestError if the module cannot be exported, RuntimeError if the graph's outputs are not the module's.
    """
    import torch

    from efflab.artefacts.interface import fixed_batch, graph_ports
    from efflab.artefacts.precision import Float32Edges, TensorsOnly, is_plain
    from efflab.contracts.examples import like_parameters
    from efflab.foundation.quiet import quiet
    from efflab.foundation.step_errors import innermost, reason
    from efflab.model_surgery.graphs.graph_check import check_graph

    inputs = example if isinstance(example, tuple) else (example,)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    if dtype == torch.bfloat16:
        raise Unavailable(
            "ONNX runtimes take no bfloat16 graphs; export float32 and let the backend compute in bfloat16"
        )
    module.eval()
    with torch.no_grad():
        outputs = module(*(like_parameters(one, module) for one in inputs))
    taken = module if is_plain(outputs) else TensorsOnly(module)
    wrapped = taken if dtype == torch.float32 else Float32Edges(taken, dtype)
    free: dict[int, Any] = {} if fixed else {0: torch.export.Dim("batch")}
    # a length that the code compares with others may have bounds of its own, which the exporter finds
    free |= dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    shapes: tuple[Any, ...] = tuple({axis: free[axis] for axis in free if axis < one.ndim} for one in inputs)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                wrapped,
                inputs,
                dynamo=True,
                opset_version=opset,
                # the wrapper's are one *argument
                dynamic_shapes=None if not free else shapes if wrapped is module else (shapes,),
                input_names=list(inputs_named) or None,
                output_names=names,
                optimize=True,  # folds batch norms
                verbose=False,
            )
    except Exception as error:
        raise RequestError(f"export_onnx: the model cannot be exported{reason(innermost(error), module)}") from error
    assert program is not None
    _forget_sources(program.model)
    with quiet():
        program.save(str(path))
    specialised = None if fixed else fixed_batch(graph_ports(path)[0])
    if specialised is not None:
        path.unlink()
        what = f"the model's code fixes the batch to {specialised}, the examples that it was traced with"
        raise RequestError(
            f"export_onnx: the model cannot be exported: {what}; compute with x.shape[0] as it is, without int(...), and "
            "without loops over examples"
        )
    _check_axes(path, axes)
    check_graph(wrapped, path, inputs, 1e-3 if dtype == torch.float32 else 5e-2, list(axes))


def _check_axes(path: Path, axes: Mapping[int, str]) -> None:
    """Raise RequestError for a graph in which an axis that must be free has become fixed."""
    from efflab.artefacts.interface import graph_ports

    for axis, name in axes.items():
        for port in graph_ports(path)[0]:
            if port.shape is not None and axis < len(port.shape) and port.shape[axis] is not None:
                path.unlink()
                what = f"the model's code fixes the {name} of {port.name} to {port.shape[axis]}"
                way_out = (
                    f"compute with x.shape[{axis}] as it is, or give all examples one {name} (padding: {{fixed: ...}})"
                )
                raise RequestError(f"export_onnx: the model cannot be exported: {what}; {way_out}")
