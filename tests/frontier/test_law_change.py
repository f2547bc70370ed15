import numpy as np
import pytest

from efflab.foundation.errors import RequestError
from efflab.frontier.law_change import MEANING, law_change

DENSE = np.array([1e5, 4e5, 9e5, 1.6e6, 3.6e6, 6.4e6])
SIZES = np.array([2e5, 8e5, 3.2e6, 6e6])


def points(compute: np.ndarray, slope: float, start: float, noise: float, seed: int) -> list[tuple[float, float]]:
    scatter = np.random.default_rng(seed).normal(0, noise, len(compute))
    return list(zip(compute, 10 ** (start + slope * np.log10(compute) + scatter), strict=True))


def test_a_parallel_shift_is_called_parallel() -> None:
    found = law_change(points(DENSE, -0.25, 1, 1e-4, 0), points(SIZES, -0.25, 0.9, 1e-4, 1))
    assert found.verdict(found.p_value) == "parallel"
    assert found.dense == pytest.approx(-0.25, abs=0.001)
    assert "buys time" in MEANING["parallel"]


def test_a_steeper_law_is_called_steeper_and_a_flatter_one_flatter() -> None:
    dense = points(DENSE, -0.25, 1, 0.002, 0)
    steeper = law_change(dense, points(SIZES, -0.35, 1.5, 0.002, 1))
    assert (steeper.verdict(steeper.p_value), steeper.difference.value) == ("steeper", pytest.approx(-0.1, abs=0.02))
    assert steeper.p_value < 0.001
    flatter = law_change(dense, points(SIZES, -0.15, 0.3, 0.002, 1))
    assert flatter.verdict(flatter.p_value) == "flatter"
    assert flatter.verdict(0.06) == "undecided"


def test_no_change_is_found_in_five_of_a_hundred() -> None:
    found = [
        law_change(points(DENSE, -0.25, 1, 0.02, 2 * trial), points(SIZES[:3], -0.25, 0.9, 0.02, 2 * trial + 1))
        for trial in range(400)
    ]
    changed = sum(one.verdict(one.p_value) in ("steeper", "flatter") for one in found)
    assert 6 <= changed <= 36
    assert sum(one.p_value < 0.05 for one in found) == pytest.approx(changed, abs=1)


def test_what_carries_no_test_is_refused() -> None:
    dense = points(DENSE, -0.25, 1, 0.01, 0)
    with pytest.raises(RequestError, match="at least 3 members"):
        law_change(dense, dense[:2])
    with pytest.raises(RequestError, match="same compute"):
        law_change(dense, [(1e6, 0.1), (1e6, 0.2), (1e6, 0.3)])
    with pytest.raises(RequestError, match="error of 0 or 1"):
        law_change(dense, [(1e5, 0.1), (1e6, 0.0), (2e6, 0.3)])
