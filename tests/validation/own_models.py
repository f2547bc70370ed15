"""Small models as users bring them: token ids with a mask, weights in a file beside the model, 16 bits, old opsets."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GENERATOR = np.random.default_rng(7)
FLOAT, HALF, INT64, INT32, BOOL = (
    getattr(TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT64", "INT32", "BOOL")
)
node = helper.make_node


def weights(*shape, dtype=np.float32):
    return GENERATOR.normal(0, 0.3, shape).astype(dtype)


def model(nodes, constants, inputs, outputs, opset=20, ir=10, listed=False):
    """Return a model; `listed`: its weights stand among its inputs, too, as old exporters wrote them."""
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    given = [helper.make_tensor_value_info(*one) for one in inputs]
    given += [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in values if listed]
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info(*one) for one in outputs], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def save(one, path, data=None, threshold=1024):
    """Write a model; `data`: where its weights go, beside it."""
    beside = {"save_as_external_data": True, "location": data, "size_threshold": threshold} if data else {}
    if data:
        (path.parent / data).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(one, str(path), **beside)
    return path


def convolution(dtype=np.float32, rows="N", side=12):
    kind = {np.float32: FLOAT, np.float16: HALF}[dtype]
    nodes = [node("Conv", ["x", "w"], ["c"], strides=[2, 2]), node("Relu", ["c"], ["r"]), node("Flatten", ["r"], ["f"]),
             node("Gemm", ["f", "v"], ["y"])]  # fmt: skip
    wide = ((side - 3) // 2 + 1) ** 2 * 16
    return model(nodes, {"w": weights(16, 1, 3, 3, dtype=dtype), "v": weights(wide, 10, dtype=dtype)},
                 [("x", kind, [rows, 1, side, side])], [("y", kind, [rows, 10])])  # fmt: skip


def tokens(vocabulary=50):
    """Ids into a table, positions into a shorter one, and a mask that weighs the rows; two free axes."""
    nodes = [
        node("Gather", ["words", "ids"], ["e"]), node("Gather", ["places", "positions"], ["p"]), node("Add", ["e", "p"], ["s"]),
        node("Unsqueeze", ["mask", "last"], ["m"]), node("Cast", ["m"], ["mf"], to=FLOAT), node("Sub", ["one", "mf"], ["gone"]),
        node("Mul", ["gone", "large"], ["off"]), node("Add", ["s", "off"], ["t"]),
        node("ReduceMax", ["t", "axis"], ["u"], keepdims=0), node("MatMul", ["u", "v"], ["y"]),
    ]  # fmt: skip
    constants = {
        "words": weights(vocabulary, 16), "places": weights(20, 16), "last": np.array([-1]), "one": np.float32(1),
        "large": np.float32(-1e4), "axis": np.array([1]), "v": weights(16, 5),
    }  # fmt: skip
    inputs = [(name, INT64, ["batch", "length"]) for name in ("ids", "positions", "mask")]
    return model(nodes, constants, inputs, [("y", FLOAT, ["batch", 5])])


def upsample(opset=9):
    nodes = [node("Upsample", ["x", "scales"], ["u"], mode="nearest"), node("Conv", ["u", "w"], ["c"]), node("Relu", ["c"], ["r"]),
             node("GlobalAveragePool", ["r"], ["y"])]  # fmt: skip
    return model(nodes, {"scales": np.float32([1, 1, 2, 2]), "w": weights(4, 3, 3, 3)}, [("x", FLOAT, ["N", 3, "H", "W"])],
                 [("y", FLOAT, ["N", 4, 1, 1])], opset, 3, listed=True)  # fmt: skip


def deep_half(layers=20):
    """Half-precision products one after the other: two runtimes round between them in other places."""
    names = [f"w{index}" for index in range(layers)]
    nodes, last = [], "x"
    for name in names:
        nodes += [node("MatMul", [last, name], [f"{name}p"]), node("Softsign", [f"{name}p"], [f"{name}s"])]
        last = f"{name}s"
    values = {name: (weights(32, 32) * 0.6).astype(np.float16) for name in names}
    return model([*nodes, node("Identity", [last], ["y"])], values, [("x", HALF, ["N", 32])], [("y", HALF, ["N", 32])])


def columns():
    """A model whose rows depend on each other: its free axis is no batch."""
    nodes = [
        node("ReduceMean", ["x", "first"], ["m"]),
        node("Sub", ["x", "m"], ["d"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    return model(
        nodes, {"first": np.array([0]), "v": weights(16, 5)}, [("x", FLOAT, ["T", 16])], [("y", FLOAT, ["T", 5])]
    )
