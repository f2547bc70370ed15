import pytest
import torch

from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_module import count_module
from efflab.records.cost import Cost
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.training.cost import add_cost, flop_per_cycle, peak_flop_per_s, training_cost

TASK = DigitsClutter(**DigitsClutter.tiny)


@pytest.mark.parametrize(
    ("flags", "vendor", "flop"),
    [
        ({"sse2", "avx", "fma", "avx512f"}, "GenuineIntel", 64),
        ({"sse2", "avx", "fma", "avx512f"}, "AuthenticAMD", 32),
        ({"sse2", "avx", "fma"}, "GenuineIntel", 32),
        ({"sse2"}, "", 8),
        ({"asimd"}, "", 16),
        (set(), "", 2),
    ],
)
def test_flop_per_cycle(flags, vendor, flop):
    assert flop_per_cycle(frozenset(flags), vendor) == flop


def test_peak_rate_grows_with_the_cores():
    assert peak_flop_per_s(3) == 3 * peak_flop_per_s(1)
    assert 1e9 < peak_flop_per_s(1) < 1e12


def test_training_costs_three_passes_and_one_of_the_teacher():
    student, teacher = resnet_cifar(4, 1, 1), resnet_cifar(8, 1, 1)
    one = torch.zeros(1, 1, 24, 24)
    student_macs, teacher_macs = count_module(student, (one,))["macs"], count_module(teacher, (one,))["macs"]
    cost = training_cost(student, TASK, examples=100, seconds=2.0)
    assert cost.training_macs == 300 * student_macs
    assert cost.hardware_burden_flop == 2.0 * peak_flop_per_s(torch.get_num_threads())
    assert training_cost(student, TASK, 100, 2.0, [teacher]).training_macs == 300 * student_macs + 100 * teacher_macs


def test_costs_add_up():
    total = Cost(1.0, 2.0, 3.0)
    add_cost(total, Cost(10.0, 20.0, 30.0))
    assert total == Cost(11.0, 22.0, 33.0)
