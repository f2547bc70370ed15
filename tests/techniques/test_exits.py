"""Early exits: who leaves where, what it costs, and how thresholds are chosen."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from efflab.contracts.examples import example_inputs
from efflab.foundation.errors import RequestError
from efflab.model_surgery.adaptive.early_exits import EarlyExits, ExitHead, in_a_row, sureness
from efflab.models.mobile_net import mobile_net
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_module import count_module
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.add_exits import AddExits, add_exits, with_exits
from efflab.techniques.choose_exits import Exit, best_thresholds, choose_exits, look, outcome
from efflab.training.cost import macs_per_example

TASK = DigitsClutter(**DigitsClutter.tiny)
IMAGES = torch.from_numpy(TASK.split("validation").inputs[0][:32].copy())


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def body(width=4):
    torch.manual_seed(0)
    module = resnet_cifar(width, 1, 1)
    module(*example_inputs(TASK, 64))  # batch norms that have seen data
    return module.eval()


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    module = with_exits(body(), TASK, hidden=8)
    add_exits(module, TASK, epochs=6.0, learning_rate=0.05, batch_size=64)
    return module


@pytest.fixture
def exits(trained):
    return copy.deepcopy(trained)


def outputs(module, x=IMAGES):
    with torch.no_grad():
        return module.eval()(x)


def test_shut_exits_and_exits_that_nobody_reaches_answer_as_the_plain_net(exits):
    plain = outputs(exits.body)
    assert torch.equal(outputs(exits), plain)
    exits.thresholds = [2.0, 2.0]
    assert torch.equal(outputs(exits), plain)


def test_at_threshold_0_all_leave_at_the_first_exit_and_the_rest_costs_nothing(exits):
    with exits.all_open():
        outputs(exits)
    first, second = exits.logits
    exits.thresholds = [0.0, 0.0]
    assert torch.equal(outputs(exits), first)
    # the stem, two 3x3 convolutions on 24x24, the head's on 12x12, and its linear layer on 8 largest and 8 mean values
    assert count_module(exits, (IMAGES[:1],))["macs"] == 576 * (9 * 4 + 2 * 16 * 9) + 144 * 9 * 4 * 8 + 16 * 10
    exits.thresholds = [None, 0.0]
    assert torch.equal(outputs(exits), second)


def test_a_mixed_batch_answers_as_its_examples_one_by_one_and_in_their_order(exits):
    with exits.all_open():
        last = outputs(exits)
    sure = [sureness(logits) for logits in exits.logits]
    exits.thresholds = [float(one.quantile(0.6)) for one in sure]
    whole = outputs(exits)
    alone = torch.cat([outputs(exits, IMAGES[index : index + 1]) for index in range(len(IMAGES))])
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)
    left_at = torch.where(sure[0] >= exits.thresholds[0], 0, torch.where(sure[1] >= exits.thresholds[1], 1, 2))
    assert set(left_at.tolist()) == {0, 1, 2}
    choices = torch.stack([*(one for one in _heads(exits)), last])
    torch.testing.assert_close(whole, choices[left_at, torch.arange(len(IMAGES))], rtol=1e-4, atol=1e-5)


def _heads(exits):
    with exits.all_open():
        outputs(exits)
    return exits.logits


def test_stages_after_an_exit_see_the_rest_of_the_batch_only(exits):
    seen = []
    exits.body.layer2.register_forward_pre_hook(lambda _stage, given: seen.append(len(given[0])))
    exits.body.layer3.register_forward_pre_hook(lambda _stage, given: seen.append(len(given[0])))
    sure = sureness(_heads(exits)[0])
    seen.clear()
    exits.thresholds = [float(sure.sort().values[12]), None]  # 20 of 32 are as sure as that
    outputs(exits)
    assert seen == [12, 12]
    exits.thresholds = [0.0, None]
    outputs(exits)
    assert seen == [12, 12]  # nobody is left, and the call has ended


def test_a_copy_leaves_by_its_own_thresholds(exits):
    other = copy.deepcopy(exits)
    other.thresholds = [0.0, 0.0]
    assert torch.equal(outputs(exits), outputs(exits.body))
    assert not exits.input_dependent
    assert other.input_dependent
    assert not torch.equal(outputs(other), outputs(exits))


def test_heads_on_a_frozen_body_leave_it_as_it_was_and_cost_its_forward_pass_only():
    module = with_exits(body(), TASK, hidden=8)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    cost = add_exits(module, TASK, train_body=False, epochs=1.0, batch_size=64)
    moved = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in moved} == {"heads"}
    assert "heads.0.linear.weight" in moved
    assert all(parameter.requires_grad for parameter in module.parameters())
    plain = macs_per_example(module, TASK)
    with module.all_open():
        both = macs_per_example(module, TASK)
    assert cost.training_macs == 512 * (plain + 3 * (both - plain))


def test_training_teaches_every_exit(exits):
    split = TASK.split("train")
    x, targets = torch.from_numpy(split.inputs[0][:256]), torch.from_numpy(split.targets[:256])
    torch.manual_seed(0)
    losses = []
    for module in (with_exits(body(), TASK, hidden=8), exits):
        with module.all_open():
            last = outputs(module, x)
        losses.append([float(TASK.loss(logits, targets)) for logits in (*module.logits, last)])
    assert all(after < before for before, after in zip(*losses, strict=True))


def test_rebuilt_heads_have_the_sizes_of_the_stored_ones():
    for hidden in (0, 8):
        module = with_exits(body(), TASK, hidden)
        structure = {"heads": [{"stage": "layer1", "channels": 4, "classes": 10, "hidden": hidden},
                               {"stage": "layer2", "channels": 8, "classes": 10, "hidden": hidden}]}  # fmt: skip
        AddExits.rebuild(body(), structure).load_state_dict(module.state_dict())


class Around(nn.Module):
    """What its first stage gives comes in again after the second one."""

    stages = ("a", "b", "c")

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.linear = nn.Linear(4, 10)

    def forward(self, x):
        first = self.a(x)
        second = self.b(first)
        return self.linear(self.c(second + first.mean(dim=0, keepdim=True)).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: mobile_net(4, 1, 1), "does not name its stages"),
        (Around, "do not take all their data from the one before"),
    ],
)
def test_models_whose_examples_cannot_leave_are_refused(make, says):
    with pytest.raises(RequestError, match=says):
        with_exits(make(), TASK)


def test_stages_in_a_row_are_known():
    assert in_a_row(body(), ("layer1", "layer2"), IMAGES[:2])
    assert not in_a_row(Around().eval(), ("a",), IMAGES[:2])


def test_how_sure_a_head_is_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.25] * 4, [1.0, 1e-9, 1e-9, 1e-9]]))
    torch.testing.assert_close(sureness(logits), torch.tensor([0.5, 0.25, 1.0]))
    # 1.75 of 2 bits of entropy
    torch.testing.assert_close(sureness(logits, "entropy"), torch.tensor([0.125, 0.0, 1.0]), atol=1e-6, rtol=0)


# four examples: the first exit is right where it is sure, the last one is right but for the third
FIRST = Exit(np.array([0.9, 0.8, 0.6, 0.3]), np.array([1, 1, 0, 0]), head=5, body=40)
LAST = Exit(np.ones(4), np.array([1, 1, 0, 1]), head=0, body=100)


def test_thresholds_by_hand():
    cost, scores = outcome([FIRST, LAST], (0.8,))
    assert cost == pytest.approx((2 * 45 + 2 * 105) / 4)  # who goes on has paid for the head, too
    assert scores.tolist() == [1, 1, 0, 1]
    assert outcome([FIRST, LAST], (None,))[0] == 100
    assert best_thresholds([FIRST, LAST], TASK, 0.0) == [0.6]  # the third is lost anyway
    assert best_thresholds([FIRST, LAST], TASK, 0.25) == [0.3]  # one of four may be lost: all leave


def test_an_exit_whose_head_costs_more_than_it_saves_stays_shut():
    dear = FIRST._replace(head=70)
    assert best_thresholds([dear, LAST], TASK, 0.0) == [None]


def test_more_loss_never_costs_more_and_keeps_to_its_limit(exits):
    found = look(exits, TASK, "maximum", 128)
    last = TASK.quality(found[-1].scores)
    costs = []
    for loss in (0.0, 0.05, 0.2, 0.5):
        cost, scores = outcome(found, tuple(best_thresholds(found, TASK, loss)))
        assert TASK.quality(scores) >= last - loss
        costs.append(cost)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_what_was_expected_is_what_the_opened_model_does(exits):
    found = look(exits, TASK, "maximum", 128)
    thresholds = choose_exits(exits, TASK, 0.3, examples=128)
    cost, scores = outcome(found, tuple(thresholds))
    split = TASK.split("validation")
    assert TASK.scores(outputs(exits, torch.from_numpy(split.inputs[0])).numpy(), split.targets).tolist() == list(
        scores
    )
    counted = [count_module(exits, (torch.from_numpy(one[None]),))["macs"] for one in split.inputs[0]]
    assert np.mean(counted) == pytest.approx(cost)


def test_what_has_no_exits_or_heads_that_do_not_fit_is_refused(exits):
    with pytest.raises(RequestError, match="add_exits makes them"):
        choose_exits(body(), TASK)
    other = EarlyExits(body(), ["layer1", "layer2"], [ExitHead(6, 10), ExitHead(8, 10)])
    with pytest.raises(RequestError, match="do not fit their stages"):
        choose_exits(other, TASK, examples=32)
