import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efflab.foundation.errors import RequestError
from efflab.frontier.fit import fit_power_law
from efflab.frontier.irreducible_error import fit_floor
from efflab.frontier.regression import bootstrap, intervals, least_squares, pareto, quantile_fit

COMPUTE = np.logspace(15, 22, 40)
YEAR = 2012 + (np.arange(40) * 7 % 10).astype(float)
NOISE = np.random.default_rng(0).normal(0, 0.03, 40)


def test_without_years_it_is_the_familys_law():
    error = 10 ** (0.8 - 0.08 * np.log10(COMPUTE) + NOISE)
    law, fit = fit_power_law(COMPUTE, error), least_squares(COMPUTE, error)
    assert fit.coefficients == pytest.approx((law.a, law.b))
    assert fit.errors[1] == pytest.approx(law.se_b)
    assert (fit.r2, fit.power) == pytest.approx((law.r2, law.power))
    assert fit.band(1e18) == pytest.approx(law.band(1e18), rel=1e-3)


@given(st.floats(-0.5, -0.02), st.floats(-0.05, 0.05), st.floats(0.01, 1e6))
@settings(max_examples=40, deadline=None)
def test_planted_coefficients_are_recovered_and_units_do_not_matter(b, g, unit):
    error = 10 ** (-1 + b * (np.log10(COMPUTE) - 15) + g * (YEAR - 2012))
    error = np.minimum(error, 0.99) if error.max() < 1 else error / error.max() * 0.9
    for scale in (1.0, unit):
        fit = least_squares(COMPUTE * scale, error, YEAR)
        assert (fit.b, fit.g) == pytest.approx((b, g), abs=1e-9)
    assert fit.progress_dex == pytest.approx(g / b, abs=1e-6)


def test_the_exponential_form_by_hand():
    # 1/e = 2 at 10, 3 at 100, 4 at 1000, 5 at 10000
    fit = least_squares(np.array([10.0, 100, 1000, 10_000]), 1 / np.array([2.0, 3, 4, 5]), form="exponential")
    assert (fit.a, fit.b) == pytest.approx((1.0, 1.0))
    assert fit.error_at(1e9) == pytest.approx(0.1)
    assert fit.power is None


@pytest.mark.parametrize("form", ["power", "exponential"])
def test_a_low_quantile_lies_under_nearly_all_errors(form):
    error = 10 ** (0.8 - 0.08 * np.log10(COMPUTE) + NOISE)
    fit = quantile_fit(COMPUTE, error, 0.1, form=form)
    under = sum(e < fit.error_at(c) * (1 - 1e-9) for c, e in zip(COMPUTE, error, strict=True))
    assert under <= 4
    assert math.isnan(fit.errors[1])
    middle = quantile_fit(COMPUTE, error, 0.5, form=form)
    assert 15 <= sum(e < middle.error_at(c) for c, e in zip(COMPUTE, error, strict=True)) <= 20


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=30))
def test_pareto_is_what_brute_force_finds(points):
    compute, error = np.array(points, float).T
    kept = {(compute[i], error[i]) for i in pareto(compute, error)}
    beaten = {
        (c, e) for c, e in points if any(c2 <= c and e2 <= e and (c2 < c or e2 < e) for c2, e2 in points)
    }  # fmt: skip
    assert kept == {(float(c), float(e)) for c, e in points} - {(float(c), float(e)) for c, e in beaten}


def test_bootstrap_intervals_cover_the_planted_slope():
    generator, held = np.random.default_rng(1), 0
    for trial in range(60):
        error = 10 ** (0.8 - 0.08 * np.log10(COMPUTE) + generator.normal(0, 0.05, 40))
        fit = least_squares(COMPUTE, error)
        draws = bootstrap(
            lambda chosen, error=error: least_squares(COMPUTE[chosen], error[chosen]), range(40), 300, trial
        )
        b = intervals(fit, draws)["b"]
        held += b.low <= -0.08 <= b.high
    assert held >= 51


def test_points_of_one_cluster_are_drawn_together():
    error = 10 ** (0.8 - 0.08 * np.log10(COMPUTE) + np.repeat(NOISE[:4], 10))
    alone = bootstrap(lambda chosen: least_squares(COMPUTE[chosen], error[chosen]), range(40), 300)
    together = bootstrap(
        lambda chosen: least_squares(COMPUTE[chosen], error[chosen]), np.repeat(range(4), 10).tolist(), 300
    )
    assert together[:, 1].std() > alone[:, 1].std()


@pytest.mark.parametrize(
    ("compute", "error", "year", "words"),
    [
        ([1, 2, 3], [0.1, 0.2, 0.3], None, "at least 4 points"),
        ([1, 2, 3, 0], [0.1, 0.2, 0.3, 0.4], None, "no compute"),
        ([1, 2, 3, 4], [0.1, 0.2, 0.3, 1.0], None, "error of 0 or 1"),
        ([5, 5, 5, 5], [0.1, 0.2, 0.3, 0.4], None, "same compute"),
        ([1, 2, 3, math.nan], [0.1, 0.2, 0.3, 0.4], None, "no finite"),
        ([1, 2, 3, 4, 5], [0.1, 0.2, 0.3, 0.4, 0.5], [2015] * 5, "cannot be told apart"),
    ],
)
def test_refusals_say_why(compute, error, year, words):
    with pytest.raises(RequestError, match=words):
        least_squares(np.array(compute, float), np.array(error), np.array(year, float) if year else None)


def test_a_planted_floor_is_found_and_none_is_not():
    compute = np.logspace(6, 10, 30)
    noise = np.random.default_rng(2).normal(0, 0.01, 30)
    with_floor = (0.05 + 10 ** (2 - 0.4 * np.log10(compute))) * 10**noise
    fit = fit_floor(compute, with_floor)
    assert fit.carried
    assert fit.floor.low <= 0.05 <= fit.floor.high
    assert fit.b == pytest.approx(-0.4, abs=0.05)
    without = fit_floor(compute, 10 ** (1 - 0.3 * np.log10(compute) + noise))
    assert not without.carried
    assert without.floor.low == 0
    with pytest.raises(RequestError, match="at least 6 points"):
        fit_floor(compute[:5], with_floor[:5])
