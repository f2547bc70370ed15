import numpy as np
import pytest
import torch
from torch import nn

from efflab.model_surgery.pruning.norm_statistics import measure_norms


def test_statistics_are_means_over_batches_and_momenta_stay():
    net = nn.Sequential(nn.BatchNorm1d(1, momentum=0.3), nn.Dropout(0.5))
    batches = [(np.array([[0.0], [2.0]], np.float32),), (np.array([[4.0], [8.0]], np.float32),)]
    assert measure_norms(net, batches) == 1
    assert float(net[0].running_mean) == pytest.approx((1 + 6) / 2)
    assert float(net[0].running_var) == pytest.approx((2 + 8) / 2)  # of n - 1
    assert net[0].momentum == 0.3
    assert not any(part.training for part in net.modules())


def test_without_norms_nothing_is_run():
    def never():
        raise AssertionError
        yield

    assert measure_norms(nn.Linear(1, 1), never()) == 0


def test_a_16_bit_net_gets_16_bit_examples():
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).to(torch.bfloat16)
    assert measure_norms(net, [(np.ones((4, 1), np.float32),)]) == 1
