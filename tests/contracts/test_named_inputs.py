"""Inputs are a tuple in the model's order, and by name; a task may answer in several calls."""

import pickle

import numpy as np
import pytest

from efflab import Batch, Split
from efflab.contracts.task import Inputs
from efflab.profiling.quality import evaluate
from efflab.tasks.digits_clutter import DigitsClutter

TINY = DigitsClutter(**DigitsClutter.tiny)


def test_a_mapping_gives_names_and_a_tuple_gives_none():
    named = Batch({"ids": np.arange(4), "mask": np.ones(4)}, [0] * 4)
    assert named.inputs.names == ("ids", "mask")
    assert named.inputs["mask"] is named.inputs[1]
    assert named.size == 4
    assert Batch((np.arange(3),), []).inputs.names == ()
    with pytest.raises(KeyError, match="no input is called 'x'; there are ids, mask"):
        named.inputs["x"]
    with pytest.raises(ValueError, match="2 inputs have 1 names"):
        Inputs((1, 2), ("a",))


def test_names_stay_through_batches_changes_and_pickling():
    split = Split({"x": np.arange(10), "y": np.arange(10) * 2}, np.arange(10))
    batch = split.batch(range(2, 5))
    assert batch.inputs["y"].tolist() == [4, 6, 8]
    assert batch.inputs.map(lambda one: one + 1)["x"].tolist() == [3, 4, 5]
    again = pickle.loads(pickle.dumps(batch.inputs))
    assert again.names == ("x", "y")
    assert len(again) == 2


def test_a_task_may_call_the_model_several_times():
    class Twice(DigitsClutter):
        def predict(self, session, inputs):
            return (session(inputs) + session(inputs.map(lambda one: one * -1))) / 2

    seen = []

    def session(inputs):
        seen.append(len(inputs[0]))
        return np.zeros((len(inputs[0]), 10), np.float32)

    task = Twice(**DigitsClutter.tiny)
    assert evaluate(session, task, "test", 128).shape == (256,)
    assert seen == [128] * 4
