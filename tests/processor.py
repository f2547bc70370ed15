"""What this machine's processor does with products of bytes, for tests whose numbers depend on it."""

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper


@functools.cache
def int8_saturates() -> bool:
    """Say whether ONNX Runtime's products of unsigned and signed bytes saturate here: x86 without VNNI adds pairs in 16 bits."""
    size = 64
    given = [helper.make_tensor_value_info("a", TensorProto.UINT8, [1, size])]
    stored = [
        helper.make_tensor("b", TensorProto.INT8, [size, 16], np.full(size * 16, 127, np.int8).tobytes(), raw=True)
    ]
    made = [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 16])]
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g", given, made, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"a": np.full((1, size), 255, np.uint8)})[0]
    return int(found[0, 0]) != 255 * 127 * size


def skip_if_int8_saturates() -> None:
    """Skip the test that asks, with the reason."""
    if int8_saturates():
        pytest.skip(
            "int8 products saturate on this processor (no VNNI): the zoo's int8 net is rightly called wrong here"
        )
