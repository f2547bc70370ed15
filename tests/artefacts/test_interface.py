"""What a model takes and gives: nested outputs by name, inputs by name, type and shape, and which output is scored."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from efflab.artefacts.interface import (
    Interface,
    Port,
    as_port,
    fixed_batch,
    graph_ports,
    leaves,
    match_inputs,
    named_leaves,
    named_output,
    output_ports,
)
from efflab.foundation.errors import RequestError
from efflab.tasks.digits_clutter import DigitsClutter

TASK = DigitsClutter(**DigitsClutter.tiny)
IMAGES, IDS = np.zeros((5, 1, 24, 24), np.float32), np.zeros((5, 7), np.int64)
LOGITS, FEATURES, LABELS = np.zeros((4, 10), np.float32), np.zeros((4, 18), np.float32), np.zeros(4, np.int64)


class Pair(NamedTuple):
    logits: np.ndarray
    hidden: np.ndarray


@dataclass
class Record:
    loss: None
    logits: np.ndarray


def test_leaves_are_found_in_any_nesting_and_none_is_left_out():
    assert named_leaves(LOGITS) == [("", LOGITS)]
    tree = {"loss": None, "heads": [LOGITS, (LABELS, None)], "pair": Pair(LOGITS, FEATURES)}
    assert [name for name, _ in named_leaves(tree)] == ["heads.0", "heads.1.0", "pair.logits", "pair.hidden"]
    assert [name for name, _ in named_leaves(Record(None, LOGITS))] == ["logits"]
    assert [name for name, _ in named_leaves(OrderedDict(b=LOGITS, a=LABELS))] == ["b", "a"]  # not sorted
    assert leaves(None) == []


def port(name, dtype, *shape):
    return Port(name, dtype, shape)


def test_inputs_are_matched_by_name_then_by_type_and_shape():
    image, ids = port("image", "float32", None, 1, 24, 24), port("ids", "int64", None, 7)
    assert match_inputs([image, ids], (IMAGES, IDS)) == [0, 1]
    assert match_inputs([ids, image], (IMAGES, IDS)) == [1, 0]
    assert match_inputs([port("x", "float16", None, 1, None, None)], (IMAGES,)) == [
        0
    ]  # one kind of numbers, free sides
    mask = np.ones((5, 7), np.int64)
    same = [port("attention_mask", "int64", None, 7), port("input_ids", "int64", None, 7)]
    assert match_inputs(same, (IDS, mask), ("input_ids", "attention_mask")) == [1, 0]


@pytest.mark.parametrize(
    ("ports", "arrays", "words"),
    [
        ([port("x", "float32", None, 3, 24, 24)], (IMAGES,), "does not take what the task gives"),
        ([port("x", "int64", None, 1, 24, 24)], (IMAGES,), "does not take what the task gives"),
        ([port("x", "float32", None, 576)], (IMAGES,), "does not take"),
        ([port("a", "int64", None, 7), port("b", "int64", None, 7)], (IDS, IDS), "their order cannot be known; say in the card"),
        ([port("a", "int64", None, 7)], (IDS, IDS), "takes 1 inputs, the task gives 2"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_or_fit_in_two_ways_are_refused_with_both_sides(ports, arrays, words):
    with pytest.raises(RequestError, match=words) as caught:
        match_inputs(ports, arrays)
    assert str(ports[0]) in str(caught.value)
    assert str(arrays[0].dtype) in str(caught.value)


def test_names_of_the_task_with_other_shapes_are_refused():
    with pytest.raises(RequestError, match="have the task's names, but other types or shapes"):
        match_inputs([port("ids", "int64", None, 9)], (IDS,), ("ids",))


def choose(**outputs):
    return TASK.choose_output(output_ports(outputs, 4))


@pytest.mark.parametrize(
    ("outputs", "place"),
    [
        ({"anything": LOGITS}, 0),
        ({"loss": None, "logits": LOGITS}, 0),  # None is no output
        ({"label": LABELS, "probabilities": LOGITS}, 1),
        ({"aux": LOGITS, "logits": LOGITS}, 1),  # by its name
        ({"features": FEATURES, "scores_of_classes": LOGITS}, 1),  # by the task's classes
        ({"pooled": LOGITS[:, :, None, None]}, 0),  # a last layer that is a convolution
        ({"map": np.zeros((4, 6, 5, 5), np.float32), "out": LOGITS}, 1),
    ],
)
def test_the_scored_output_is_found_by_name_or_shape(outputs, place):
    assert choose(**outputs) == place


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"label": LABELS}, "needs an output with a score for each class.*label int64"),
        ({"map": np.zeros((4, 6, 5, 5), np.float32)}, "needs an output with a score for each class"),
        ({"one": np.zeros((4, 1), np.float32)}, "needs an output with a score"),
        ({"a": LOGITS, "b": LOGITS}, "several outputs could hold the scores of 10 classes.*`output: ...`"),
        ({"rows": np.zeros((3, 10), np.float32)}, "needs an output"),  # its first axis counts no examples
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(outputs, words):
    with pytest.raises(RequestError, match=words):
        choose(**outputs)


def test_outputs_of_every_form_give_the_score_of_the_same_logits():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(4, 10)).astype(np.float32), np.array([0, 3, 5, 9])
    right = TASK.scores(logits, targets).tolist()
    for outputs in ({"logits": logits}, (logits, None), logits[:, :, None, None], [FEATURES, logits]):
        assert TASK.scores(TASK.scored(outputs), targets).tolist() == right
    known = TASK.for_model(Interface(scored=1))
    assert TASK.scores(known.scored((-logits, logits)), targets).tolist() == right


def test_classes_that_are_switched_off_count_and_nan_is_no_answer():
    logits = np.full((2, 12), -np.inf, np.float32)
    logits[0, 3], logits[1, 0] = 1.0, np.nan
    assert TASK.scores(logits, np.array([3, 0])).tolist() == [1, 0]
    with pytest.raises(RequestError, match="the data has 10 classes, and this model gives fewer scores"):
        TASK.scores(np.zeros((1, 5), np.float32), np.array([9]))


def test_an_output_is_named_by_its_name_or_number():
    ports = output_ports({"a": LOGITS, "b": LOGITS}, 4)
    assert named_output(ports, "b") == named_output(ports, 1) == 1
    for wrong in ("c", 2):
        with pytest.raises(RequestError, match=r"the model has no output.*0: a float32"):
            named_output(ports, wrong)


def test_ports_of_a_graph_leave_out_stored_weights_and_tell_a_fixed_batch(tmp_path):
    given = [
        helper.make_tensor_value_info(*one)
        for one in (("x", TensorProto.FLOAT16, [1, 3]), ("w", TensorProto.FLOAT16, [3, 2]))
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT16, [3, 2], np.ones(6, np.float16))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", given,
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["n", 2])], [weight])  # fmt: skip
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    inputs, outputs = graph_ports(tmp_path / "m.onnx")
    assert inputs == (Port("x", "float16", (1, 3)),)
    assert outputs == (Port("y", "float16", (None, 2)),)
    assert fixed_batch(inputs) == 1
    assert as_port(np.ones(2, np.float32), inputs[0]).dtype == np.float16
    assert as_port(np.ones(2, np.int64), inputs[0]).dtype == np.int64  # another kind of numbers is not touched
    (tmp_path / "n.onnx").write_bytes(b"no graph")
    with pytest.raises(RequestError, match="no readable ONNX file"):
        graph_ports(tmp_path / "n.onnx")


def test_an_interface_survives_being_kept():
    face = Interface((port("x", "float32", None, 3),), (Port("y", "float32", None),), scored=0, batch=1)
    assert Interface.of_data(face.as_data()) == face
    assert Interface.of_data({}) == Interface()


@pytest.mark.parametrize(
    ("scores", "numbers", "sorted_ones"),
    [
        ((None, 10), (None, 10), True),
        ((None, 10, 1), (None, 10), True),
        ((None, 10), (None,), False),  # a class number an example
        (None, None, False),  # nothing is known of either
        ((None, None), (None, None), False),
    ],
)
def test_only_scores_beside_as_many_class_numbers_are_called_sorted(scores, numbers, sorted_ones):
    ports = [Port("scores", "float32", scores), Port("indices", "int64", numbers)]
    if sorted_ones:
        with pytest.raises(RequestError, match="sorted by size"):
            TASK.choose_output(ports)
        assert TASK.choose_output(ports[:1]) == 0  # as a card names it that knows better
    else:
        assert TASK.choose_output(ports) == 0
