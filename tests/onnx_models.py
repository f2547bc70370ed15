"""Small ONNX graphs in the forms in which files come: any opset, weights stored in several ways, names or none."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FORMS = ("initializer", "constant", "input")  # where weights stand: IR version 3 lists them among the inputs


def save_graph(
    path: Path, nodes, weights, opset=17, form="initializer", names=True, classes=10, given=(1, 24, 24), batch="N"
):
    """Write a graph from x (batch, *given) to y (batch, classes)."""
    for place, node in enumerate(nodes):
        node.name = f"{node.op_type}_{place}" if names else ""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *given])]
    stored = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]
    if form == "constant":
        nodes = [helper.make_node("Constant", [], [one.name], value=one) for one in stored] + list(nodes)
        stored = []
    if form == "input":
        inputs += [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in stored]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes])]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, stored)
    ir = 3 if form == "input" else 8 if opset < 21 else 10
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir), str(path))
    return path


def classifier(seed=0):
    """Return nodes and weights of Conv, Relu, Flatten and Gemm, which every opset from 7 on has."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "W", "B"], ["y"]),
    ]
    weights = {
        "w": rng.normal(0, 0.2, (8, 1, 5, 5)),
        "b": rng.normal(0, 0.1, 8),
        "W": rng.normal(0, 0.05, (800, 10)),
        "B": rng.normal(0, 0.1, 10),
    }
    return nodes, {name: value.astype(np.float32) for name, value in weights.items()}


def halved(path: Path, edges=False) -> Path:
    """Rewrite a file's weights and tensors in float16; `edges`: its input and output stay float32, behind casts."""
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    ends = (model.graph.input[0], model.graph.output[0])
    if not edges:
        for end in ends:
            end.type.tensor_type.elem_type = TensorProto.FLOAT16
    else:
        for node in model.graph.node:
            node.input[:] = ["x16" if name == "x" else name for name in node.input]
            node.output[:] = ["y16" if name == "y" else name for name in node.output]
        model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x16"], "cast_in", to=TensorProto.FLOAT16))
        model.graph.node.append(helper.make_node("Cast", ["y16"], ["y"], "cast_out", to=TensorProto.FLOAT))
    onnx.save(model, str(path))
    return path


def run(path: Path, *inputs: np.ndarray) -> np.ndarray:
    """Run a graph in bare ONNX Runtime, each operator as ONNX defines it, and return its first output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float16)": np.float16}
    feed = {
        one.name: value.astype(kinds.get(one.type, value.dtype))
        for one, value in zip(session.get_inputs(), inputs, strict=True)
    }
    return session.run(None, feed)[0]


def decibel(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return signal over error."""
    error = float(np.square(found.astype(np.float64) - wanted).sum())
    return 10 * np.log10(float(np.square(wanted, dtype=np.float64).sum()) / error) if error else np.inf
