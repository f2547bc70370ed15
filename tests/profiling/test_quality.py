import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies

from efflab import Session, Split
from efflab.profiling.quality import evaluate, parity, predict


class Doubles(Session):
    """Gives twice its input, nested, always from the same buffer, and notes the batches that it saw."""

    def __init__(self, batch_size):
        self.seen = []
        self.buffer = np.zeros((batch_size, 3), np.float32)

    def run(self, loaded):
        self.seen.append(len(loaded[0]))
        np.multiply(loaded[0], 2, out=self.buffer)
        return {"a": self.buffer, "b": [self.buffer[:, :2], (self.buffer[:, 0],)]}


@given(strategies.integers(1, 40), strategies.integers(1, 9))
def test_every_example_is_answered_once_in_full_batches(total, batch_size):
    inputs = np.arange(total * 3, dtype=np.float32).reshape(total, 3)
    session = Doubles(batch_size)
    outputs = predict(session, (inputs,), batch_size)
    assert set(session.seen) == {batch_size}
    assert len(session.seen) == math.ceil(total / batch_size)
    np.testing.assert_array_equal(outputs["a"], inputs * 2)
    np.testing.assert_array_equal(outputs["b"][0], inputs[:, :2] * 2)
    np.testing.assert_array_equal(outputs["b"][1][0], inputs[:, 0] * 2)


def test_the_score_is_the_tasks():
    class Picks(Session):
        def run(self, loaded):
            return loaded[0]

    logits = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    split = Split((logits,), np.array([0, 1, 0, 3, 0]))
    task = SimpleNamespace(
        split=lambda name: {"test": split}[name],
        predict=lambda session, inputs: session(inputs),
        scored=lambda outputs: outputs,
        scores=lambda outputs, targets: outputs.argmax(1) == targets,
    )
    assert evaluate(Picks(), task, "test", 2).tolist() == [True, True, False, True, True]
    assert evaluate(Picks(), task, split, 3).tolist() == [True, True, False, True, True]


def test_outputs_that_are_not_a_row_an_example_are_refused():
    class Mean(Session):
        def run(self, loaded):
            return loaded[0].mean(keepdims=True)

    with pytest.raises(ValueError, match="first axis must be the batch of 4"):
        predict(Mean(), (np.ones((4, 2)),), 4)
    with pytest.raises(ValueError, match="at least one example"):
        predict(Mean(), (np.ones((0, 2)),), 4)


def test_parity_by_hand():
    reference = np.array([[3.0, 4.0], [0.0, 5.0]])
    outputs = np.array([[3.0, 2.9], [0.0, 5.0]])
    found = parity(outputs, reference)
    assert found["sqnr_db"] == pytest.approx(10 * math.log10(50 / 1.21))
    assert found["max_abs_error"] == pytest.approx(1.1)
    assert found["top1_agreement"] == 0.5


def test_equal_outputs_have_no_noise_and_broken_ones_no_bound():
    reference = {"x": np.array([[1.0, np.inf], [np.nan, 2.0]])}
    assert parity(reference, reference) == {"sqnr_db": math.inf, "max_abs_error": 0.0, "top1_agreement": 1.0}
    broken = parity({"x": np.array([[np.nan, np.inf], [np.nan, 2.0]])}, reference)
    assert (broken["sqnr_db"], broken["max_abs_error"]) == (-math.inf, math.inf)


def test_indices_have_no_top1_and_shapes_must_agree():
    assert parity([np.arange(3)], [np.arange(3)])["top1_agreement"] is None
    with pytest.raises(ValueError, match="shapes"):
        parity(np.ones((2, 2)), np.ones((2, 3)))
