"""The ledger of models whose work depends on the input: a mean over examples, and groups that cost alike."""

import numpy as np
import pytest
import torch
from torch import nn

from efflab.profiling import work_by_input
from efflab.profiling.work_by_input import count_by_input, is_input_dependent
from efflab.profiling.work_module import count_module
from efflab.tasks.digits_clutter import DigitsClutter

TASK = DigitsClutter(train=16, validation=100, test=16)
IMAGES = torch.from_numpy(TASK.split("validation").inputs[0])
PIXELS = 24 * 24


class Repeats(nn.Module):
    """Answers the example's class after as many products as a function of the image says."""

    def __init__(self, times):
        super().__init__()
        self.linear, self.times = nn.Linear(PIXELS, 10, bias=False), times

    @property
    def input_dependent(self):
        return True

    def forward(self, x):
        for _ in range(self.times(x)):
            logits = self.linear(x.flatten(1))
        return logits


def bright(x):
    return 3 if float(x.mean()) > 0 else 1


def test_costs_shares_and_quality_by_hand():
    torch.manual_seed(0)
    module = Repeats(bright)
    work = count_by_input(module, TASK)
    dear = np.array([bright(one) == 3 for one in IMAGES])
    with torch.no_grad():
        logits = module.linear(IMAGES.flatten(1)).numpy()
    right = logits.argmax(1) == TASK.split("validation").targets
    one = PIXELS * 10
    assert work["by_input"] == [
        {"macs": one, "share": pytest.approx(1 - dear.mean()), "quality": pytest.approx(right[~dear].mean())},
        {"macs": 3 * one, "share": pytest.approx(dear.mean()), "quality": pytest.approx(right[dear].mean())},
    ]
    assert work["macs"] == round(one * (1 + 2 * dear.mean()))
    assert work["effective_macs"] == work["macs"]
    assert work["bit_operations"] == round(one * (1 + 2 * dear.mean()) * 32 * 32)
    assert work["params"] == one
    assert work["coverage"] == 1.0


def test_only_so_many_examples_are_counted():
    work = count_by_input(Repeats(bright), TASK, examples=10)
    assert [group["share"] * 10 for group in work["by_input"]] == pytest.approx(
        [sum(bright(one) == times for one in IMAGES[:10]) for times in (1, 3)]
    )


def test_many_costs_are_cut_into_ten_groups_of_equally_many():
    module = Repeats(lambda x: 1 + int((x.mean() + 1) * 1e4) % 40)
    costs = sorted(count_module(module, (one[None],))["macs"] for one in IMAGES)
    groups = count_by_input(module, TASK)["by_input"]
    assert len(groups) == work_by_input.MOST_GROUPS
    assert [group["share"] for group in groups] == pytest.approx([0.1] * 10)
    assert [group["macs"] for group in groups] == [
        round(np.mean(costs[start : start + 10])) for start in range(0, 100, 10)
    ]


def test_a_part_says_that_its_work_depends_on_the_input():
    assert is_input_dependent(nn.Sequential(nn.Identity(), Repeats(bright)))
    assert not is_input_dependent(nn.Sequential(nn.Identity()))
