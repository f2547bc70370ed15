"""An exception of a library inside a step names the technique, the layer, what it cannot take and what to do."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from efflab.foundation.errors import RequestError
from efflab.foundation.step_errors import explained, innermost, reason
from efflab.techniques.finetune import Finetune


def raised(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (any that a library raises)
        call()
    return caught.value


class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(5, 4)

    def forward(self, x):
        return self.second(self.first(x))


class Counts(nn.Module):
    def forward(self, x):
        return x * int(x.shape[0])


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def old_weight_norm():
    layer = torch.nn.utils.weight_norm(nn.Linear(2, 2))
    layer(torch.zeros(1, 2))
    return layer


def fails(words):
    raise RuntimeError(words)


def test_the_layer_is_named_where_shapes_do_not_fit():
    module = Breaks()
    said = explained(raised(lambda: module(torch.zeros(1, 4))), "finetune", module, Finetune)
    assert said.startswith("finetune cannot take this model at layer second (Linear): the shapes that meet here")
    assert "(in the library's words: RuntimeError: mat1 and mat2 shapes cannot be multiplied" in said


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bool(np.ones(2) == np.ones(2)), "a stored number of an unusual shape"),
        (lambda: json.loads("nonsense"), "something that the library behind it refuses; leave this step out"),
        (lambda: torch.zeros(2, 3).contiguous(memory_format=torch.channels_last), "inputs that are no images"),
        (lambda: torch.fx.symbolic_trace(Counts()), "code that cannot be followed without numbers, such as int(...)"),
        (lambda: torch.fx.symbolic_trace(Branches()), "code that branches on the values of a tensor"),
        (
            lambda: copy.deepcopy(old_weight_norm()),
            "a weight that a hook computes, as the old torch.nn.utils.weight_norm",
        ),
        (lambda: fails("ConvertFullyConnected failed at node opset1::MatMul"), "something that the library behind it"),
        (lambda: fails("No Op registered for Foo, opset 12"), "an operator at this opset"),
    ],
)
def test_what_it_cannot_take_is_said_in_words(call, words):
    assert words in reason(raised(call), None)


def test_a_node_of_a_graph_is_named():
    error = RuntimeError(
        "Non-zero status code returned while running MatMul node. Name:'/head/MatMul' Status Message: oh"
    )
    assert reason(error, None).startswith(" at node /head/MatMul: ")


def test_long_words_are_cut_and_causes_are_found():
    outer = RuntimeError("the exporter has failed\nfor many reasons")
    outer.__cause__ = ValueError("x" * 1000)
    assert innermost(outer) is outer.__cause__
    assert len(reason(innermost(outer), None)) < 500
    assert "\n" not in reason(outer, None)


def test_our_own_words_stay_as_they_are():
    from efflab.model_surgery.same_outputs import same_outputs
    from efflab.techniques.finetune import finetune

    error = raised(lambda: finetune(nn.Linear(1, 1), None, epochs=-1))
    assert not isinstance(error, RequestError)
    inside = raised(lambda: same_outputs(torch.zeros(1), np.array(["text"]), 1e-3))
    for one in (error, inside):
        assert explained(one, "finetune", None, Finetune).startswith("finetune")
