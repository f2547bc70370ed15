import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efflab.frontier.shift import Family, Point, Shift, family_of, shift_of

COMPUTE = [1e6, 3e6, 1e7, 3e7, 1e8]


def law(compute: float) -> float:
    return float(10 ** (1 - 0.25 * math.log10(compute)))


def members(noise: float = 0.0, seed: int = 0, unit: float = 1.0) -> list[Point]:
    generator = np.random.default_rng(seed)
    return [Point(c * unit, law(c) * 10 ** generator.normal(0, noise)) for c in COMPUTE]


FAMILY: Family = family_of(members(), draws=200)
BASE = Point(3e7, law(3e7))


def shift(family: Family, variant: Point, base: Point = BASE, seeds: int = 3) -> Shift:
    found = shift_of(family, variant, base, seeds)
    assert isinstance(found, Shift), found
    return found


def test_a_model_on_the_line_has_shift_one() -> None:
    found = shift(FAMILY, BASE)
    assert found.multiplier.value == pytest.approx(1)
    assert found.standing == pytest.approx(1)
    assert found.flags == ()


def test_shift_is_the_naive_ratio_when_errors_are_equal() -> None:
    found = shift(FAMILY, Point(1.5e7, BASE.error))
    assert found.multiplier.value == pytest.approx(2)
    assert found.naive == 2


@given(st.floats(1e6, 1e8), st.floats(0.1, 0.3), st.floats(0.5, 2))
@settings(max_examples=50, deadline=None)
def test_three_factors_make_the_shift(compute: float, error: float, off: float) -> None:
    base = Point(3e7, law(3e7) * off)
    found = shift(FAMILY, Point(compute, error), base)
    rho = error / base.error
    assert found.multiplier.value == pytest.approx(found.naive * rho**-FAMILY.law.power)
    assert found.total.value == pytest.approx(found.multiplier.value * found.standing)
    # equal in two units: M**-b is the ratio of the errors at equal compute
    at_equal_compute = error + found.gain.value
    assert at_equal_compute / error == pytest.approx(found.multiplier.value**-FAMILY.law.b)


@given(st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_compute_does_not_matter(unit: float) -> None:
    noisy = shift(family_of(members(0.02), draws=100), Point(1e7, 0.19)).multiplier
    other = shift(
        family_of(members(0.02, unit=unit), draws=100), Point(1e7 * unit, 0.19), Point(3e7 * unit, BASE.error)
    )
    assert other.multiplier.value == pytest.approx(noisy.value)
    assert other.multiplier.low == pytest.approx(noisy.low)
    assert other.multiplier.high == pytest.approx(noisy.high)


def test_staircase_and_censoring() -> None:
    found = shift(FAMILY, Point(5e6, law(2e7)))
    assert found.multiplier.value == pytest.approx(4)
    assert found.total.value == pytest.approx(4)
    assert found.stair == pytest.approx(6)  # the cheapest dense member that is as good has 3e7
    better = shift(FAMILY, Point(5e7, law(2e8)), seeds=1)
    assert better.stair is None
    assert better.censored_over == 2
    assert tuple(map(str, better.flags)) == ("extrapolated", "censored", "single seed")
    assert "extrapolated by 1.0 powers of ten" in map(str, shift(FAMILY, Point(5e7, law(1e9))).flags)


def test_small_or_flat_families_are_flagged_or_refused() -> None:
    flags = [str(flag) for flag in shift(family_of(members()[:3], draws=50), BASE).flags]
    assert "small family (n = 3)" in flags
    rising = [Point(c, 0.1 + i / 100) for i, c in enumerate(COMPUTE)]
    assert "does not fall" in str(shift_of(family_of(rising, draws=50), BASE, BASE))
    assert "no error between" in str(shift_of(FAMILY, Point(1e6, 0.0), BASE))


def test_the_baselines_own_standing_is_not_credited() -> None:
    base = Point(3e7, law(3e7) / 1.2)  # better than its family's law
    same = shift(FAMILY, base, base)
    assert (same.multiplier.value, same.gain.value) == (pytest.approx(1), pytest.approx(0))
    assert same.total.value == same.standing == pytest.approx(1.2**4)
    halved = shift(FAMILY, Point(1.5e7, base.error), base)
    assert halved.multiplier.value == pytest.approx(2)


def test_dominance_counts_draws() -> None:
    errors = np.array([[0.2, 0.2, 0.2, 0.2]])
    family = family_of(members(), draws=4)
    base = Point(3e7, 0.2, np.full(4, 3e7), errors)
    assert shift(family, base, base).dominates == 0
    better = base._replace(error_draws=errors - np.array([[0.01, 0.0, 0.0, -0.01]]))
    assert shift(family, better, base).dominates == 0.25
    cheaper = better._replace(compute_draws=np.array([2e7, 2e7, 4e7, 2e7]))
    assert shift(family, cheaper, base).dominates == 0.5


def test_shared_examples_cancel() -> None:
    # hard draws of the test set are hard for all models: the shift must not widen by them
    wobble = 10 ** np.random.default_rng(0).normal(0, 0.05, 500)
    points = [Point(c, law(c), None, law(c) * wobble[None]) for c in COMPUTE]
    variant, base = (Point(c, law(at), None, law(at) * wobble[None]) for c, at in ((1e7, 2e7), (3e7, 3e7)))
    paired = shift(family_of(points, draws=500), variant, base).multiplier
    assert paired.low == pytest.approx(2)
    assert paired.high == pytest.approx(2)
