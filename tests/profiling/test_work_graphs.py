"""The ledger of ONNX graphs as people have them: weights in many places, data files, nodes without names."""

import numpy as np
import onnx
import pytest
from ledger_graphs import macs_of, model_of, ones
from onnx import TensorProto, helper, numpy_helper

from efflab.foundation.errors import RequestError
from efflab.profiling.work_of_artefact import count_onnx
from efflab.profiling.work_onnx import macs_by_node

NODE = helper.make_node
FLOAT = TensorProto.FLOAT


# --- convolutions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "known"), [(1, 794336), (4, 487136), (16, 410336)])
def test_grouped_and_transposed_convolutions_by_hand(graph_file, groups, known):
    nodes = [
        NODE("Conv", ["x", "down"], ["a"], strides=[2, 2]),
        NODE("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2], pads=[1, 1, 1, 1], group=groups),
        NODE("Conv", ["b", "again"], ["c"], strides=[2, 2]),
        NODE("Flatten", ["c"], ["f"]),
        NODE("Gemm", ["f", "head"], ["y"]),
    ]
    stored = {"down": ones(16, 1, 5, 5), "up": ones(16, 16 // groups, 4, 4), "again": ones(16, 16, 4, 4)}
    path = graph_file(nodes, stored | {"head": ones(1296, 10)}, [("x", FLOAT, ["n", 1, 24, 24])])
    by_hand = 16 * 100 * 25 + 16 * 100 * (16 // groups) * 16 + 16 * 81 * 16 * 16 + 1296 * 10
    assert macs_of(path) == by_hand == known


# --- where weights are ----------------------------------------------------------------------------------------------

WEIGHT = np.where(np.arange(30).reshape(6, 5) % 3 == 0, 0, 2).astype(np.float32)
PLACES = np.flatnonzero(WEIGHT)


def sparse(name, by_axis):
    places = np.stack(np.unravel_index(PLACES, (6, 5)), axis=1) if by_axis else PLACES
    values = numpy_helper.from_array(WEIGHT.reshape(-1)[PLACES], name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64), f"{name}.at"), [6, 5])


def _constant(**value):
    return [NODE("Constant", [], ["w"], **value), NODE("MatMul", ["x", "w"], ["y"])]


@pytest.mark.parametrize(
    "nodes",
    [
        _constant(value=numpy_helper.from_array(WEIGHT)),
        _constant(sparse_value=sparse("", by_axis=False)),
        _constant(sparse_value=sparse("", by_axis=True)),
        [
            NODE("Constant", [], ["flat"], value_floats=WEIGHT.reshape(-1).tolist()),
            NODE("Constant", [], ["shape"], value_ints=[6, 5]),
            NODE("Reshape", ["flat", "shape"], ["w"]),
            NODE("MatMul", ["x", "w"], ["y"]),
        ],
        [
            NODE("Constant", [], ["c"], value=numpy_helper.from_array(WEIGHT)),
            NODE("Identity", ["c"], ["i"]),
            NODE("Identity", ["i"], ["w"]),
            NODE("MatMul", ["x", "w"], ["y"]),
        ],
    ],
)
def test_weights_of_constant_nodes(graph_file, nodes):
    work = count_onnx(graph_file(nodes, {}, [("x", FLOAT, ["n", 6])]))
    assert (work["macs"], work["effective_macs"], work["coverage"]) == (30, 20, 1.0)
    assert (work["params"], work["nonzero_params"]) == (30, 20)


@pytest.mark.parametrize("by_axis", [False, True])
def test_sparse_initializers(tmp_path, by_axis):
    model = model_of([NODE("MatMul", ["x", "w"], ["y"])], {}, [("x", FLOAT, ["n", 6])])
    model.graph.sparse_initializer.append(sparse("w", by_axis))
    onnx.save(model, tmp_path / "m.onnx")
    work = count_onnx(tmp_path / "m.onnx")
    assert (work["macs"], work["effective_macs"], work["coverage"]) == (30, 20, 1.0)
    assert (work["params"], work["nonzero_params"]) == (30, 20)


def test_one_weight_behind_identities_and_one_in_parts_are_counted_once(graph_file):
    nodes = [
        NODE("Identity", ["w"], ["same"]),
        NODE("MatMul", ["x", "w"], ["a"]),
        NODE("MatMul", ["x", "same"], ["b"]),
        NODE("Split", ["both"], ["left", "right"], axis=1, num_outputs=2),
        NODE("MatMul", ["a", "left"], ["c"]),
        NODE("MatMul", ["b", "right"], ["d"]),
        NODE("Concat", ["p", "q"], ["pq"], axis=0),
        NODE("MatMul", ["d", "pq"], ["e"]),
        NODE("Sum", ["c", "e"], ["y"]),
    ]
    stored = {"w": ones(6, 4), "both": ones(4, 6), "p": ones(1, 3), "q": ones(2, 3)}
    work = count_onnx(graph_file(nodes, stored, [("x", FLOAT, ["n", 6])]))
    assert (work["macs"], work["coverage"]) == (2 * 24 + 2 * 12 + 9, 1.0)
    assert work["params"] == 24 + 24 + 9


@pytest.mark.parametrize("axes", [["n", 2, 8, 8], [1, 2, 8, 8], [4, 2, 8, 8], ["n", 2, "side", "side"]])
def test_an_old_graph_that_lists_its_weights_as_inputs(graph_file, axes):
    nodes = [
        NODE("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER"),
        NODE("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"]),
        NODE("Relu", ["b"], ["c"]),
        NODE("Upsample", ["c", "scales"], ["u"], mode="nearest"),
        NODE("MaxPool", ["u"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        NODE("Dropout", ["m"], ["e"], ratio=0.5),
        NODE("Reshape", ["e", "flat"], ["f"]),
        NODE("Gemm", ["f", "v", "bias"], ["y"]),
    ]
    four = dict.fromkeys(("scale", "shift", "mean", "variance"), ones(4))
    head = {"flat": np.array([-1, 256]), "v": ones(256, 10), "bias": ones(10)}
    stored = {"w": ones(4, 2, 3, 3), **four, "scales": np.array([1, 1, 2, 2], np.float32), **head}
    path = graph_file(nodes, stored, [("x", FLOAT, axes)], opset=9, ir=3, listed=True)
    shapes = {"x": (1, 2, 8, 8)}
    assert macs_of(path, shapes) == 4 * 64 * 18 + 2560
    assert count_onnx(path, shapes)["params"] == 72 + 8 + 2560 + 10


def test_a_single_slope_is_a_parameter(graph_file):
    nodes = [NODE("MatMul", ["x", "w"], ["a"]), NODE("PRelu", ["a", "slope"], ["y"])]
    work = count_onnx(graph_file(nodes, {"w": ones(6, 5), "slope": ones(1)}, [("x", FLOAT, ["n", 6])]))
    assert (work["macs"], work["params"], work["coverage"]) == (30, 31, 1.0)


# --- data files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path):
    """A graph with 30 weights in a data file."""
    path = tmp_path / "m.onnx"
    model = model_of([NODE("MatMul", ["x", "w"], ["y"])], {"w": WEIGHT}, [("x", FLOAT, ["n", 6])])
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_weights_in_a_data_file(beside):
    work = count_onnx(beside)
    assert (work["macs"], work["effective_macs"], work["params"], work["nonzero_params"]) == (30, 20, 30, 20)
    assert work["artefact_bytes"] == beside.stat().st_size + 120


def test_a_constant_node_in_a_data_file(tmp_path):
    path = tmp_path / "m.onnx"
    model = model_of(_constant(value=numpy_helper.from_array(WEIGHT, "c")), {}, [("x", FLOAT, ["n", 6])])
    settings = {"location": "weights.bin", "size_threshold": 0, "convert_attribute": True}
    onnx.save(model, path, save_as_external_data=True, **settings)
    work = count_onnx(path)
    assert (work["effective_macs"], work["params"], work["nonzero_params"]) == (20, 30, 20)
    assert work["artefact_bytes"] == path.stat().st_size + 120


def test_a_missing_or_short_data_file_is_named(beside):
    data = beside.with_name("weights.bin")
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(RequestError, match=r"weights in .*weights\.bin are broken"):
        count_onnx(beside)
    data.unlink()
    for count in (count_onnx, macs_by_node):
        with pytest.raises(RequestError, match=r"m\.onnx keeps weights in .*weights\.bin, and there is no such file"):
            count(beside)


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("", "b", "r"), "node 0 of m.onnx, a MatMul, has no name"),
        (("a", "a", "r"), "node 0 of m.onnx, a MatMul, shares its name 'a'"),
        (("a", "r", "r"), "node 2 of m.onnx, a MatMul, shares its name 'r'"),
    ],
)
def test_nodes_are_counted_by_place_and_their_names_must_tell_them_apart(graph_file, names, said):
    nodes = [
        NODE("MatMul", ["x", "w"], ["h"], name=names[0]),
        NODE("Relu", ["h"], ["r"], name=names[2]),
        NODE("MatMul", ["r", "v"], ["y"], name=names[1]),
    ]
    path = graph_file(nodes, {"w": ones(6, 5), "v": ones(5, 4)}, [("x", FLOAT, ["n", 6])])
    assert macs_of(path) == 30 + 20
    with pytest.raises(ValueError, match=said):
        macs_by_node(path)


def test_nodes_that_compute_nothing_need_no_names(graph_file):
    nodes = [NODE("Relu", ["x"], ["a"]), NODE("MatMul", ["a", "w"], ["b"], name="product"), NODE("Relu", ["b"], ["y"])]
    path = graph_file(nodes, {"w": ones(6, 5)}, [("x", FLOAT, ["n", 6])])
    assert macs_by_node(path) == {"product": 30}


# --- what has no shape of its own -----------------------------------------------------------------------------------


def test_shapes_that_depend_on_values_are_not_taken_from_a_run(graph_file):
    nodes = [
        NODE("NonZero", ["x"], ["at"]),
        NODE("Cast", ["at"], ["f"], to=FLOAT),
        NODE("Transpose", ["f"], ["t"], perm=[1, 0]),
        NODE("MatMul", ["t", "w"], ["y"]),
    ]
    work = count_onnx(graph_file(nodes, {"w": ones(2, 5)}, [("x", FLOAT, ["n", 6])]))
    assert (work["macs"], work["coverage"], work["uncounted"]) == (0, 0.0, {"onnx::MatMul": 1})


def test_products_in_nested_branches_are_said(graph_file):
    value = helper.make_tensor_value_info
    product = helper.make_graph([NODE("MatMul", ["x", "w"], ["o"])], "b", [], [value("o", FLOAT, None)])
    other = helper.make_graph([NODE("Identity", ["x"], ["o"])], "b", [], [value("o", FLOAT, None)])
    inner = NODE("If", ["yes"], ["o"], then_branch=product, else_branch=other)
    outer = helper.make_graph([inner], "b", [], [value("o", FLOAT, None)])
    nodes = [NODE("If", ["yes"], ["y"], then_branch=outer, else_branch=other)]
    path = graph_file(nodes, {"w": ones(6, 6), "yes": np.array(True)}, [("x", FLOAT, ["n", 6])])
    work = count_onnx(path)
    assert (work["coverage"], work["uncounted"]) == (0.0, {"onnx::If": 1})


@pytest.mark.parametrize(
    ("equation", "macs"), [("...ij,jk->...ik", 2 * 3 * 6 * 5), ("bhij->bhji", 0), ("bhij,jk->k", 2 * 3 * 6 * 5)]
)
def test_einsum_with_dots_and_with_one_operand(graph_file, equation, macs):
    operands = ["x", "w"] if "," in equation else ["x"]
    nodes = [NODE("Einsum", operands, ["y"], equation=equation)]
    assert macs_of(graph_file(nodes, {"w": ones(6, 5)}, [("x", FLOAT, ["n", 2, 3, 6])])) == macs
