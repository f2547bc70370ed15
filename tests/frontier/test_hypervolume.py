import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efflab.frontier.hypervolume import Corner, corner_of, hypervolume, hypervolume_change

CORNER = Corner(1e3, 1.0)
POINTS = st.lists(st.tuples(st.floats(1, 1e4), st.floats(1e-2, 2)), max_size=8)


def test_by_hand() -> None:
    assert hypervolume([(10, 0.1)], CORNER) == pytest.approx(2 * 1)
    # 2 x 1 and, one power of ten further, 1 x (2 - 1) more
    assert hypervolume([(10, 0.1), (100, 0.01)], CORNER) == pytest.approx(3)
    assert hypervolume([(2e3, 0.1), (10, 1.5), (0, 0.1), (10, 0)], CORNER) == 0


@given(POINTS)
@settings(max_examples=60, deadline=None)
def test_equals_brute_force(points: list[tuple[float, float]]) -> None:
    side = 300
    x = (np.arange(side) + 0.5) / side * 3  # log10 of compute from 1 to the corner
    y = -2 + (np.arange(side) + 0.5) / side * 2  # log10 of error from 0.01 to the corner
    covered = np.zeros((side, side), bool)
    for compute, error in points:
        covered |= (x[:, None] >= np.log10(compute)) & (y[None] >= np.log10(error))
    assert hypervolume(points, CORNER) == pytest.approx(covered.mean() * 6, abs=0.05)


@given(POINTS, POINTS)
@settings(max_examples=60, deadline=None)
def test_more_points_never_cover_less_and_units_do_not_matter(family, variants) -> None:
    change = hypervolume_change(family, variants, CORNER)
    assert change >= 0
    doubled = [[(2 * compute, error) for compute, error in points] for points in (family, variants)]
    assert hypervolume_change(*doubled, Corner(2e3, 1.0)) == pytest.approx(change, abs=1e-9)


def test_the_corner_is_the_familys() -> None:
    assert corner_of([(1, 0.3), (5, 0.1)]) == (5, 0.3)
    assert hypervolume_change([(1, 0.3), (5, 0.1)], [(5, 0.1)], Corner(5, 0.3)) == 0
