"""Parts that are cut from a graph run by themselves, elsewhere."""

import numpy as np
from onnx import TensorProto, checker, helper

from efflab.validation.backends.graph_cutting import leading_to, nodes_alone


def graph():
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("FusedGelu", ["a"], ["b"], domain="com.example"),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1), helper.make_opsetid("com.unused", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]), opset_imports=opsets, ir_version=10)


def domains(model):
    return {one.domain for one in model.opset_import}


def test_a_part_names_only_the_operator_sets_of_its_operators():
    model = graph()
    assert domains(leading_to(model, "a")) == {""}
    assert domains(leading_to(model, "y")) == {"", "com.example"}
    part = nodes_alone(model, [2], {"b": np.ones((2, 4), np.float32), "y": np.ones((2, 4), np.float32)})
    assert domains(part) == {""}
    assert [node.op_type for node in part.graph.node] == ["Neg"]
    checker.check_model(part)
