"""The ledger of ONNX graphs whose inputs have free axes, or a batch that is fixed or not their first axis."""

import numpy as np
import pytest
from ledger_graphs import macs_of, ones
from onnx import TensorProto, helper

from efflab.foundation.errors import RequestError
from efflab.profiling.work_of_artefact import count_onnx
from efflab.profiling.work_onnx import macs_by_node

NODE = helper.make_node
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


# --- free axes ------------------------------------------------------------------------------------------------------

EMBEDDED = [
    NODE("Gather", ["table", "ids"], ["e"], name="embed"),
    NODE("MatMul", ["e", "w"], ["h"], name="project"),
    NODE("Transpose", ["h"], ["t"], perm=[0, 2, 1], name="turn"),
    NODE("MatMul", ["h", "t"], ["y"], name="scores"),
]
TABLES = {"table": ones(5, 6), "w": ones(6, 4)}


@pytest.mark.parametrize("length", [1, 7])
def test_a_free_length_is_counted_at_the_length_of_an_example(graph_file, length):
    path = graph_file(EMBEDDED, TABLES, [("ids", INT64, ["batch", "length"])])
    shapes = {"ids": (1, length)}
    assert macs_of(path, shapes) == length * 6 * 4 + length * 4 * length
    assert macs_by_node(path, shapes) == {"project": length * 6 * 4, "scores": length * 4 * length}


def test_without_an_example_a_free_length_is_said_and_nothing_counted(graph_file):
    work = count_onnx(graph_file(EMBEDDED, TABLES, [("ids", INT64, ["batch", "length"])]))
    assert work["uncounted"] == {'free axis "length" of input ids': 2}
    assert (work["macs"], work["coverage"]) == (0, 0.0)
    assert (work["params"], work["nonzero_params"]) == (54, 54)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (["n", 3, "height", "width"], 'free axis "height" of input x, free axis "width" of input x'),
        ([None, 3, None, None], "free axis 2 of input x, free axis 3 of input x"),
        (["n", 3, 0, -1], "free axis 2 of input x, free axis 3 of input x"),
        ([1, 3, "side", "side"], 'free axis "side" of input x'),
        (None, "unknown shape of input x"),
    ],
)
def test_free_heights_and_widths(graph_file, axes, said):
    nodes = [NODE("Conv", ["x", "w"], ["y"], name="conv")]
    path = graph_file(nodes, {"w": ones(8, 3, 3, 3)}, [("x", FLOAT, axes)])
    work = count_onnx(path)
    assert (work["macs"], work["coverage"], work["uncounted"]) == (0, 0.0, {said: 1})
    assert macs_by_node(path) == {}
    assert macs_of(path, {"x": (1, 3, 10, 10)}) == 8 * 8 * 8 * 3 * 9


def test_axes_with_one_symbol_have_one_length(graph_file):
    nodes = [NODE("MatMul", ["ids", "mask"], ["y"])]
    inputs = [("ids", FLOAT, ["n", 3, "length"]), ("mask", FLOAT, ["n", "length", 2])]
    path = graph_file(nodes, {}, inputs)
    assert macs_of(path, {"ids": (1, 3, 7)}) == 3 * 7 * 2
    with pytest.raises(RequestError, match=r"the axis 'length' .* the lengths 7 and 8 in one example"):
        count_onnx(path, {"ids": (1, 3, 7), "mask": (1, 8, 2)})


def test_an_example_that_does_not_fit_the_graph_is_refused(graph_file):
    path = graph_file(EMBEDDED, TABLES, [("ids", INT64, ["batch", "length"])])
    with pytest.raises(RequestError, match=r"no input 'id'; did you mean 'ids'"):
        count_onnx(path, {"id": (1, 7)})
    with pytest.raises(RequestError, match=r"input 'ids' has 2 axes in the ONNX graph and 3 in the example"):
        count_onnx(path, {"ids": (1, 7, 3)})


def test_only_what_depends_on_a_free_axis_is_uncounted(graph_file):
    nodes = [NODE("MatMul", ["x", "w"], ["a"]), NODE("MatMul", ["z", "w"], ["y"]), NODE("Det", ["a"], ["d"])]
    path = graph_file(nodes, {"w": ones(6, 6)}, [("x", FLOAT, ["n", 6, 6]), ("z", FLOAT, ["n", "t", 6])])
    work = count_onnx(path)
    assert work["uncounted"] == {'free axis "t" of input z': 1, "onnx::Det": 1}
    assert (work["macs"], work["coverage"]) == (216, pytest.approx(1 / 3))


# --- the batch ------------------------------------------------------------------------------------------------------

TURNED = [  # x: (batch, 3), z: (5, batch, 4)
    NODE("MatMul", ["x", "w"], ["a"]),
    NODE("MatMul", ["z", "v"], ["b"]),
    NODE("ReduceSum", ["b", "axes"], ["c"], keepdims=0),
    NODE("Add", ["a", "c"], ["y"]),
]
TURNED_WEIGHTS = {"w": ones(3, 2), "v": ones(4, 2), "axes": np.array([0])}
TURNED_MACS = 3 * 2 + 5 * 4 * 2


@pytest.mark.parametrize("turned_first", [False, True])
@pytest.mark.parametrize("shapes", [None, {"x": (1, 3), "z": (5, 1, 4)}])
@pytest.mark.parametrize("batch", ["n", "batch", 1, 8, 5])
def test_a_batch_that_is_not_the_first_axis_of_one_input(graph_file, batch, shapes, turned_first):
    inputs = [("x", FLOAT, [batch, 3]), ("z", FLOAT, [5, batch, 4])]
    path = graph_file(TURNED, TURNED_WEIGHTS, inputs[::-1] if turned_first else inputs, outputs=[("y", [batch, 2])])
    assert macs_of(path, shapes) == TURNED_MACS


@pytest.mark.parametrize("turned_first", [False, True])
@pytest.mark.parametrize(("batch", "made"), [("n", ["n", 2]), ("batch", None), ("batch_size", ["other", 2])])
def test_a_free_time_before_the_batch_is_no_batch(graph_file, batch, made, turned_first):
    inputs = [("x", FLOAT, [batch, 3]), ("z", FLOAT, ["time", batch, 4])]
    path = graph_file(TURNED, TURNED_WEIGHTS, inputs[::-1] if turned_first else inputs, outputs=[("y", made)])
    work = count_onnx(path)
    assert (work["macs"], work["coverage"]) == (3 * 2, 0.5)
    assert work["uncounted"] == {'free axis "time" of input z': 1}
    assert macs_of(path, {"x": (1, 3), "z": (5, 1, 4)}) == TURNED_MACS


def test_positions_beside_tokens_are_no_batch(graph_file):
    nodes = [NODE("MatMul", ["x", "w"], ["a"]), NODE("MatMul", ["p", "w"], ["b"]), NODE("Add", ["a", "b"], ["y"])]
    inputs = [("p", FLOAT, ["length", 3]), ("x", FLOAT, ["n", "length", 3])]
    path = graph_file(nodes, {"w": ones(3, 2)}, inputs, outputs=[("y", ["n", "length", 2])])
    work = count_onnx(path)
    assert (work["macs"], work["coverage"]) == (0, 0.0)
    assert sum(work["uncounted"].values()) == 2
    assert macs_of(path, {"x": (1, 7, 3)}) == 2 * 7 * 3 * 2


def test_inputs_that_name_their_batches_differently(graph_file):
    nodes = [NODE("MatMul", ["x", "w"], ["a"]), NODE("MatMul", ["z", "w"], ["b"]), NODE("Add", ["a", "b"], ["y"])]
    for first, second in (("x_axis_0", "z_axis_0"), (None, None), ("batch_x", "batch_z")):
        path = graph_file(nodes, {"w": ones(3, 2)}, [("x", FLOAT, [first, 3]), ("z", FLOAT, [second, 3])])
        assert macs_of(path) == macs_of(path, {"x": (1, 3), "z": (1, 3)}) == 2 * 3 * 2


@pytest.mark.parametrize(("batch", "made"), [("batch", None), ("n", ["n", 2])])
def test_a_first_axis_with_another_name_than_the_batch_is_none(graph_file, batch, made):
    nodes = [NODE("MatMul", ["z", "w"], ["a"]), NODE("MatMul", ["x", "w"], ["b"]), NODE("Add", ["a", "b"], ["y"])]
    inputs = [("z", FLOAT, ["tokens", 3]), ("x", FLOAT, [batch, 3])]
    path = graph_file(nodes, {"w": ones(3, 2)}, inputs, outputs=[("y", made)])
    work = count_onnx(path)
    assert (work["macs"], work["uncounted"]) == (6, {'free axis "tokens" of input z': 1})
    assert macs_of(path, {"z": (7, 3), "x": (1, 3)}) == 8 * 6


@pytest.mark.parametrize("batch", [1, 8])
def test_a_fixed_batch_is_divided_out(graph_file, batch):
    nodes = [
        NODE("Conv", ["x", "w"], ["a"], name="conv"),
        NODE("Reshape", ["a", "flat"], ["b"], name="flat"),
        NODE("Gemm", ["b", "v"], ["y"], name="head"),
    ]
    stored = {"w": ones(4, 2, 3, 3), "flat": np.array([batch, 4 * 36]), "v": ones(4 * 36, 10)}
    path = graph_file(nodes, stored, [("x", FLOAT, [batch, 2, 8, 8])], outputs=[("y", [batch, 10])])
    each = {"conv": 4 * 36 * 2 * 9, "head": 1440}
    for shapes in (None, {"x": (1, 2, 8, 8)}):
        work = count_onnx(path, shapes)
        assert work["macs"] == work["effective_macs"] == sum(each.values())
        assert work["bit_operations"] == work["macs"] * 1024
        assert work["coverage"] == 1.0
        assert macs_by_node(path, shapes) == each


def test_a_fixed_batch_beside_a_free_length(graph_file):
    path = graph_file([NODE("MatMul", ["x", "w"], ["y"])], {"w": ones(3, 2)}, [("x", FLOAT, [8, "length", 3])])
    assert macs_of(path, {"x": (1, 7, 3)}) == 7 * 3 * 2
    assert count_onnx(path)["uncounted"] == {'free axis "length" of input x': 1}


def test_a_batch_whose_size_cannot_be_known_is_said(graph_file):
    inputs = [("x", FLOAT, [8, 3]), ("z", FLOAT, [5, 8, 4])]
    work = count_onnx(graph_file(TURNED, TURNED_WEIGHTS, inputs))
    assert work["uncounted"] == {"unknown size of the batch: 5 or 8": 1}
    assert (work["macs"], work["coverage"]) == (8 * TURNED_MACS, pytest.approx(2 / 3))

    nodes = [NODE("Conv", ["x", "w"], ["a"]), NODE("ReduceMean", ["a", "axes"], ["y"])]  # one image without a batch
    stored = {"w": ones(4, 3, 3), "axes": np.array([1])}
    path = graph_file(nodes, stored, [("x", FLOAT, [2, 3, 10])], outputs=[("y", [7, 1, 8])])
    assert count_onnx(path)["uncounted"] == {"unknown size of the batch: 2 or 7": 1}
