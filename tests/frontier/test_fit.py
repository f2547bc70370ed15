import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efflab.foundation.errors import RequestError
from efflab.frontier.fit import fit_power_law, student


def test_fit_by_hand() -> None:
    # log10: x 1 2 3, y -0.1 -0.4 -0.4; slope -0.15, intercept 0, residuals 0.05 -0.1 0.05
    law = fit_power_law([10, 100, 1000], [10**-0.1, 10**-0.4, 10**-0.4])
    assert law.b == pytest.approx(-0.15)
    assert law.a == pytest.approx(0.0, abs=1e-12)
    assert law.residual_sd == pytest.approx(math.sqrt(0.015))
    assert law.se_b == pytest.approx(math.sqrt(0.015 / 2))
    assert law.r2 == pytest.approx(1 - 0.015 / 0.06)
    assert [str(flag) for flag in law.flags()] == ["small family (n = 3)", "slope not significant"]
    # at x = 2 the band reaches t(1) s sqrt(1 + 1/3)
    reach = 12.706 * math.sqrt(0.015 * 4 / 3)
    assert law.band(100) == pytest.approx((10 ** (-0.3 - reach), 10 ** (-0.3 + reach)))


@given(st.floats(-1, 1), st.floats(-0.9, -0.02), st.integers(3, 9), st.floats(0.5, 3))
@settings(max_examples=50, deadline=None)
def test_a_planted_law_is_recovered(a: float, b: float, n: int, unit: float) -> None:
    compute = np.logspace(9, 12, n)
    error = 10 ** (a + b * np.log10(compute)) / 10 ** max(0.0, a)
    law = fit_power_law(compute, error)
    assert law.b == pytest.approx(b, rel=1e-6)
    assert law.compute_at(law.error_at(3e10)) == pytest.approx(3e10, rel=1e-6)
    assert law.power == pytest.approx(-1 / b, rel=1e-6)
    # MACs or FLOP: only the intercept moves
    assert fit_power_law(compute * unit, error).b == pytest.approx(law.b, rel=1e-6)


def test_cifar_resnets_have_power_four() -> None:
    # published CIFAR-10 ResNet-20/32/44/56: MMACs and accuracies of chenyaofo/pytorch-cifar-models
    law = fit_power_law([40.8e6, 69.1e6, 97.4e6, 125.8e6], [0.0740, 0.0647, 0.0599, 0.0563])
    assert law.power == pytest.approx(4.1, abs=0.1)


@pytest.mark.parametrize(
    ("compute", "error", "words"),
    [
        ([1, 2], [0.1, 0.2], "at least 3"),
        ([1, 2, 3], [0.1, 0.2], "3 compute values for 2"),
        ([1, 2, 3], [0.1, 0.2, 0.0], "error of 0 or 1"),
        ([1, 2, 3], [0.1, 0.2, 1.0], "error of 0 or 1"),
        ([0, 2, 3], [0.1, 0.2, 0.3], "no compute"),
        ([5, 5, 5], [0.1, 0.2, 0.3], "same compute"),
        ([1, 2, math.nan], [0.1, 0.2, 0.3], "no finite"),
    ],
)
def test_refusals_say_why(compute: list[float], error: list[float], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        fit_power_law(compute, error)


def test_prediction_band_covers_one_more_member() -> None:
    generator = np.random.default_rng(0)
    compute = np.logspace(6, 8, 6)
    held = 0
    for _ in range(400):
        law = fit_power_law(compute, 10 ** (0.5 - 0.2 * np.log10(compute) + generator.normal(0, 0.02, 6)))
        low, high = law.band(3e7)
        held += low <= 10 ** (0.5 - 0.2 * math.log10(3e7) + generator.normal(0, 0.02)) <= high
    assert 365 <= held <= 394


def test_student_meets_the_normal() -> None:
    assert student(1) == 12.706
    assert student(40) == pytest.approx(2.021, abs=0.003)
    assert student(10_000) == pytest.approx(1.96, abs=0.001)
