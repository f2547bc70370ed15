"""Shapes and types of all tensors of an ONNX graph from those of its inputs: inferred, and where that fails, seen in one run."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, shape_inference

Shape = tuple[int, ...]


def shapes_and_types(
    model: onnx.ModelProto, inputs: list[onnx.ValueInfoProto], needed: set[str]
) -> tuple[dict[str, Shape], dict[str, int]]:
    """Return what is known of shapes and element types by tensor name.

    inputs: the graph's inputs, their free axes filled. needed: tensors worth a run if their shapes cannot be inferred.
    """
    known = onnx.ModelProto()
    known.CopyFrom(model)
    del known.graph.value_info[:]  # they speak of a symbolic batch
    for output in known.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        known = shape_inference.infer_shapes(known, data_prop=True)
    except (shape_inference.InferenceError, ValueError):
        known = model
    shapes, types = {}, {}
    for value in [*inputs, *known.graph.value_info, *known.graph.output]:
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim):
            shapes[value.name] = tuple(axis.dim_value for axis in tensor.shape.dim)
    if needed - shapes.keys():
        shapes.update(_shapes_by_running(model, inputs, shapes, needed - shapes.keys()))
    return shapes, types


def _shapes_by_running(
    model: onnx.ModelProto, inputs: list[onnx.ValueInfoProto], shapes: dict[str, Shape], wanted: set[str]
) -> dict[str, Shape]:
    """Run the graph and look; gives nothing where it cannot run (open lengths, unknown operators).

    Runs on zeros and on ones: shapes that depend on the values of the inputs, or are empty, tell nothing of an example.
    """
    import onnxruntime

    if any(value.name not in shapes for value in inputs):
        return {}
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    del seen.graph.output[:]
    names = sorted(wanted)
    seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    kinds = {value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in inputs}
    runs: list[list[Shape]] = []
    try:
        session = onnxruntime.InferenceSession(seen.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for number in (0, 1):
            feed = {name: np.full(shapes[name], number, kind) for name, kind in kinds.items()}
            runs.append([array.shape for array in session.run(names, feed)])
    except Exception:  # the runtime's errors have no common, public base; what stays unknown is listed as uncounted
        if not runs:  # ones may be wrong indices where zeros are right
            return {}
    return {
        name: found
        for name, found, other in zip(names, runs[0], runs[-1], strict=True)
        if found == other and all(found)
    }
