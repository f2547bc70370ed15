"""Splits that are read batch by batch: the same numbers as from arrays in memory, and never more than a batch at a time."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from worlds import make_card

from efflab import Batch, Classification, Split, Task
from efflab.contracts.examples import (
    QUALITY_BATCH,
    as_tensors,
    calibration_batches,
    first_inputs,
    loss_gradients,
    quality_batch,
)  # fmt: skip
from efflab.contracts.module_session import ModuleSession
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.errors import RequestError
from efflab.profiling.quality import evaluate
from efflab.run import run_file
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.training.trainer import fit

DATA = DigitsClutter(train=512, validation=64, test=200)
MOST = 128  # examples of one call, the largest that this test asks for
STREAMED = """
import numpy as np
from efflab import Batch, Classification, Split
from efflab.tasks.digits_clutter import DigitsClutter

MOST = {most}


class Read(Split):
    def __init__(self, arrays):
        self._arrays = arrays

    def __len__(self):
        return len(self._arrays.targets)

    def batch(self, indices):
        assert len(indices) <= MOST, f"{{len(indices)}} examples at once"
        return Batch(tuple(array[list(indices)] for array in self._arrays.inputs), self._arrays.targets[list(indices)])

    def whole(self):
        return None


class Streamed(DigitsClutter):
    '''The digits, as if they did not fit in memory.'''

    def split(self, name):
        return Read(super().split(name))
"""


@pytest.fixture
def plugins(in_folder, monkeypatch):
    (in_folder / "plugins" / "tasks").mkdir(parents=True)
    (in_folder / "plugins" / "tasks" / "streamed.py").write_text(STREAMED.format(most=MOST))
    monkeypatch.setenv("EFFLAB_PLUGINS", str(in_folder / "plugins"))
    return in_folder


def test_a_streamed_task_gives_the_numbers_of_arrays_in_memory(plugins, monkeypatch):
    (plugins / "plugins" / "tasks" / "streamed.py").write_text(STREAMED.format(most=250))
    card = make_card(plugins)
    text = card.read_text()
    recipe = (
        "name: {name}\nbaseline: tiny\nvariants:\n"
        "  half: [{{prune_channels: {{ratio: 0.5, round_to: 1, importance: taylor}}}}, "
        "{{finetune: {{epochs: 1, batch_size: 64}}}}]\n"
        "  int8: [{{export_onnx: {{}}}}, {{quantize_static: {{calibration_examples: 64}}}}]\n"
        "measure: {{backends: [torch, onnxruntime], seeds: [0], batch_sizes: [4], min_runs: 11, min_seconds: 0.001, "
        "max_seconds: 0.002, rounds: 5, controls: false, threads: 1}}\n"
    )
    found = {}
    for name in ("digits_clutter", "streamed"):
        card.write_text(text.replace("digits_clutter", name))
        (plugins / "r.yaml").write_text(recipe.format(name=name.replace("_", "-")))
        records = run_file(plugins / "r.yaml", workers=1)["records"]
        assert {one["status"] for one in records if one["backend"] == "torch" or one["variant"] == "int8"} <= {
            "ok", "unavailable",
        }  # fmt: skip
        found[name] = {
            (one["variant"], one["backend"]): (one["quality"], one["work"], one.get("fidelity"))
            for one in records
            if "quality" in one
        }
    assert len(found["streamed"]) >= 5
    assert json.dumps(found["streamed"].__repr__()) == json.dumps(found["digits_clutter"].__repr__())


@given(st.lists(st.integers(0, 63), max_size=20), st.integers(0, 63), st.integers(0, 63))
def test_rows_are_those_of_the_arrays_in_any_order(indices, start, stop):
    x, y = np.arange(128).reshape(64, 2), np.arange(64)
    split = Split((x,), {"label": y, "name": [str(one) for one in y]})
    for places in (indices, range(start, stop), range(stop, start, -3)):
        batch = split.batch(places)
        assert (batch.inputs[0] == x[list(places)]).all()
        assert (batch.targets["label"] == y[list(places)]).all()
        assert batch.targets["name"] == [str(one) for one in places]


def test_named_targets_keep_their_names():
    class Boxes(NamedTuple):
        corners: np.ndarray
        labels: np.ndarray

    split = Split((np.zeros((4, 2)),), Boxes(np.arange(8).reshape(4, 2), np.arange(4)))
    batch = split.batch([3, 0])
    assert isinstance(batch.targets, Boxes)
    assert batch.targets.labels.tolist() == [3, 0]
    assert as_tensors(batch.targets).corners.tolist() == [[6, 7], [0, 1]]


def test_a_split_without_examples_is_refused_in_words():
    with pytest.raises(RequestError, match="the split has no examples"):
        first_inputs(Split((np.zeros((0, 2)),), np.zeros(0)), 1)


def test_a_range_of_neighbours_costs_no_copy():
    x = np.zeros((64, 2))
    assert np.shares_memory(Split((x,), np.zeros(64)).batch(range(8, 16)).inputs[0], x)


def test_first_inputs_repeat_the_last_where_there_are_fewer():
    split = Split((np.arange(3),), np.zeros(3))
    assert first_inputs(split, 2)[0].tolist() == [0, 1]
    assert first_inputs(split, 5)[0].tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize(("side", "wanted"), [(24, QUALITY_BATCH), (224, 13), (3000, 1)])
def test_batches_are_sized_by_what_an_example_takes(side, wanted):
    class Images(Split):
        def __init__(self):
            pass

        def __len__(self):
            return 1000

        def batch(self, indices):
            return Batch((np.zeros((len(indices), 3, side, side), np.float32),), np.zeros(len(indices), np.int64))

    assert quality_batch(DATA, Images()) == wanted


class Weighted(Classification):
    """Targets with a part beside the class: how much each example counts."""

    def digest(self):
        return "weighted"

    def split(self, name):
        one = DATA.split(name)
        return Split(one.inputs, {"label": one.targets, "weight": np.full(len(one), 0.5, np.float32)})

    def loss(self, outputs, targets):
        each = nn.functional.cross_entropy(outputs, targets["label"], reduction="none")
        return (each * targets["weight"]).mean()

    def augment(self, inputs, generator):
        return DATA.augment(inputs, generator)

    def class_count(self):
        return 10

    def scores(self, outputs, targets):
        return super().scores(outputs, targets["label"])


def test_targets_may_have_any_structure():
    task = Weighted()
    assert isinstance(task, Task)
    torch.manual_seed(0)
    one, other = (nn.Sequential(nn.Flatten(), nn.Linear(576, 10)) for _ in range(2))
    other.load_state_dict(one.state_dict())
    settings = TrainingSettings(epochs=2.0, batch_size=64, weight_decay=0.0)
    fit(one, task, settings, 0)
    fit(other, DATA, settings, 0, loss=lambda _, outputs, targets: DATA.loss(outputs, targets) * 0.5)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    session = ModuleSession(one, torch.float32)
    assert (evaluate(session, task, "test", 64) == evaluate(session, DATA, "test", 64)).all()
    one.zero_grad()
    loss_gradients(task, 100)(one)
    assert float(one[1].weight.grad.abs().sum()) > 0
    assert sum(len(batch[0]) for batch in calibration_batches(task, 100)) == 100
