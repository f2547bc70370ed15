"""Small ONNX graphs for the ledger's tests, and the MACs of those of which everything is counted."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from efflab.profiling.work_of_artefact import count_onnx


def ones(*shape):
    return np.ones(shape, np.float32)


def model_of(nodes, stored, inputs, outputs=(("y", None),), opset=20, ir=10, listed=False):
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    given = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    if listed:  # as IR version 3 asks
        given += [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in tensors]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
    graph = helper.make_graph(nodes, "g", given, made, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def macs_of(path, shapes=None):
    """Return the MACs of a graph of which everything is counted."""
    work = count_onnx(path, shapes)
    assert (work["coverage"], work["uncounted"]) == (1.0, {})
    return work["macs"]
