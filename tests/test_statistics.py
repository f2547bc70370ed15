import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from efflab import statistics as stats
from efflab.statistics import Interval
from efflab.statistics.shared_scatter import digamma as own_digamma
from efflab.statistics.shared_scatter import trigamma


@pytest.mark.parametrize(("percentile", "needed"), [(90, 64), (95, 130), (99, 662), (99.9, 6636)])
def test_samples_needed_for_a_percentile(percentile: float, needed: int) -> None:
    assert stats.samples_needed(percentile) == needed
    assert stats.percentile_bound(np.arange(needed - 1), percentile) is None
    assert stats.percentile_bound(np.arange(needed), percentile) == needed - 2  # one sample stays above the bound


def test_percentile_is_in_percent() -> None:
    with pytest.raises(ValueError, match="in percent"):
        stats.samples_needed(0.9)


def test_percentile_bound_holds_with_its_confidence() -> None:
    generator = np.random.default_rng(0)
    truth = -math.log(0.05)  # 95th percentile of the exponential distribution
    held = [stats.percentile_bound(generator.exponential(size=300), 95) >= truth for _ in range(600)]  # type: ignore[operator]
    assert np.mean(held) >= 0.98


@given(st.integers(64, 3000))
@settings(max_examples=25, deadline=None)
def test_more_samples_never_bound_worse(n: int) -> None:
    assert 0 <= stats.samples_over(n + 1, 90) - stats.samples_over(n, 90) <= 1


def test_median_and_iqr_by_hand() -> None:
    assert stats.median_and_iqr([5, 1, 2, 3, 4]) == (3, 2)


def test_time_over_inputs_by_hand() -> None:
    # two kinds of input, one call of the second was disturbed
    rounds = [[1.0, 3.0], [1.0, 3.0, 1.0, 50.0], [1.0, 3.0]]
    assert stats.time_over_inputs(rounds, 2) == 2.0
    assert stats.time_over_inputs([[4.0, 1.0], [2.0]], 1) == 2.0


def test_a_ratio_over_starts_by_hand() -> None:
    # logarithms of the ratios: 0.1, 0.2, 0.3; mean 0.2, standard error 0.1 / sqrt 3, Student's t 4.303
    theirs, mine = np.exp([0.1, 0.4, 0.2]), np.exp([0.0, 0.2, -0.1])
    ratio = stats.ratio_over_starts(theirs, mine)
    reach = 4.303 * 0.1 / math.sqrt(3)
    assert ratio.value == pytest.approx(math.exp(0.2))
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(0.2 - reach), math.exp(0.2 + reach)))
    known = stats.ratio_over_starts(theirs, mine, variance=0.03, freedom=10)
    assert known.high == pytest.approx(math.exp(0.2 + 2.228 * 0.1))


def test_time_by_start_by_hand() -> None:
    rounds = [[1.0, 3.0], [2.0], [8.0], [4.0, 6.0]]
    assert stats.time_by_start(rounds, [2, 2]).tolist() == [2.0, 6.0]
    assert stats.time_by_start(rounds[:1] + rounds[3:], [1, 1], 2).tolist() == [2.0, 5.0]  # means of two inputs


def test_two_speeds_are_found_and_named() -> None:
    found = stats.two_speeds(np.array([0.055, 0.123, 0.054, 0.122, 0.056]))
    assert str(found) == "two speeds: 0.055 and 0.122 ms in 3 and 2 of 5 starts"
    assert stats.two_speeds(np.array([0.05, 0.06, 0.075, 0.09, 0.11])) is None  # one wide spread
    assert stats.two_speeds(np.array([1.0, 1.01, 1.02, 1.0, 1.03])) is None


def test_what_has_two_speeds_is_neither_faster_nor_slower_than_either() -> None:
    steady, two = np.array([0.08, 0.081, 0.08, 0.079, 0.08]), np.array([0.055, 0.123, 0.055, 0.123, 0.055])
    ratio = stats.covering(stats.ratio_over_starts(steady, two), steady, two)
    assert ratio.low < 0.081 / 0.123 * 1.01
    assert ratio.high > 0.079 / 0.055 * 0.99
    assert stats.speed_verdict(ratio) == "undecided"


def test_alike_scatters_lend_each_other_certainty_and_unlike_ones_do_not() -> None:
    generator = np.random.default_rng(3)
    alike = generator.chisquare(4, 40) / 4
    shrunk, freedom = stats.moderated(alike, 4)
    assert freedom > 20
    assert shrunk.std() < 0.3 * alike.std()
    unlike = alike * np.exp(generator.normal(0, 3, 40))
    kept, few = stats.moderated(unlike, 4)
    assert few <= 5
    large = unlike > np.median(unlike)
    np.testing.assert_allclose(kept[large], unlike[large], rtol=0.5)


def test_gamma_s_derivatives() -> None:
    from scipy.special import digamma, polygamma

    for x in (0.3, 1.0, 2.5, 17.0):
        assert own_digamma(x) == pytest.approx(digamma(x), abs=1e-8)
        assert trigamma(x) == pytest.approx(polygamma(1, x), abs=1e-8)


def test_mcnemar_by_hand() -> None:
    a = np.array([1] * 6 + [0] * 1 + [1] * 5 + [0] * 4)
    b = np.array([0] * 6 + [1] * 1 + [1] * 5 + [0] * 4)
    # 7 discordant, 1 against 6: 2 (1 + 7) / 128
    assert stats.mcnemar_exact(a, b) == pytest.approx(0.125)
    assert stats.mcnemar_exact(a, a) == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_symmetric_and_a_probability(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T
    p = stats.mcnemar_exact(a, b)
    assert 0 < p <= 1
    assert p == pytest.approx(stats.mcnemar_exact(b, a))


def test_paired_difference_paths_agree() -> None:
    generator = np.random.default_rng(2)
    a = (generator.random(800) < 0.9).astype(float)
    b = np.where(generator.random(800) < 0.05, 1 - a, a)
    fast = stats.paired_difference(a, b, draws=4000)
    plain = stats.paired_difference(a, b, quality=lambda scores: float(scores.mean()), draws=4000)
    graded = stats.paired_difference(a / 2, b / 2, draws=4000)
    assert fast.value == pytest.approx(plain.value) == pytest.approx(2 * graded.value)
    for other in (plain, Interval(0, 2 * graded.low, 2 * graded.high)):
        assert fast.low == pytest.approx(other.low, abs=0.002)
        assert fast.high == pytest.approx(other.high, abs=0.002)


def test_paired_difference_covers_the_truth() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        a = generator.random(1000) < 0.9
        flips = generator.random(1000)
        b = np.where(a, flips > 0.04, flips < 0.16)  # truth: 0.1 x 0.16 - 0.9 x 0.04 = -0.02
        found = stats.paired_difference(a, b, draws=400, seed=trial)
        covered += found.low <= -0.02 <= found.high
    assert 272 <= covered <= 298


@pytest.mark.parametrize(("seeds", "scatter"), [(3, 0.0), (3, 0.004), (3, 0.03), (5, 0.01), (2, 0.01)])
def test_mean_over_few_seeds_covers_the_truth(seeds: int, scatter: float) -> None:
    generator = np.random.default_rng(5)
    weights = stats.example_weights(1000, 400, 0)
    covered = 0
    for trial in range(300):
        hardness, rates = generator.normal(size=1000), np.clip(generator.normal(0.8, scatter, seeds), 0, 1)
        noise = generator.normal(size=(seeds, 1000))
        right = 0.6 * hardness + 0.8 * noise < norm.ppf(rates)[:, None]
        found = stats.interval_of(right.mean(), stats.mix_seeds(stats.resampled_means(right, weights), trial))
        covered += found.low <= 0.8 <= found.high
    assert 270 <= covered <= 299


def test_few_seeds_have_the_interval_of_students_t() -> None:
    # examples without luck: every draw of a seed is the same, and what is left is a plain t interval of three values
    values = np.array([-30.0, -27.5, -19.0])
    found = stats.interval_of(values.mean(), stats.mix_seeds(np.repeat(values[:, None], 20_000, axis=1)))
    reach = 4.303 * values.std(ddof=1) / math.sqrt(3)
    assert found.low == pytest.approx(values.mean() - reach, rel=0.05)
    assert found.high == pytest.approx(values.mean() + reach, rel=0.1)


def test_one_seed_or_equal_ones_add_nothing() -> None:
    draws = np.random.default_rng(6).random((1, 50))
    np.testing.assert_array_equal(stats.mix_seeds(draws), draws[0])
    np.testing.assert_allclose(stats.mix_seeds(np.repeat(draws, 3, axis=0)), draws[0])


def test_scores_of_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="same examples"):
        stats.paired_difference(np.ones(3), np.ones(4))


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(1.2, 1.1, 1.3), "faster"),
        (Interval(0.8, 0.7, 0.9), "slower"),
        (Interval(1.02, 0.99, 1.04), "no difference"),
        (Interval(1.02, 1.01, 1.03), "no difference"),
        (Interval(0.985, 0.97, 0.99), "no difference"),
        (Interval(1.9, 0.03, 31.4), "undecided"),
        (Interval(1.0, 0.92, 1.099), "no difference"),
        (Interval(1.0, 0.92, 1.101), "undecided"),
        (Interval(1.0, 0.9, 1.0), "undecided"),  # 1 / 1.1 is 0.909
        (Interval(1.015, 1.01, 1.2), "undecided"),
    ],
)
def test_speed_verdict(interval: Interval, words: str) -> None:
    assert stats.speed_verdict(interval) == words


def test_p_values_are_below_five_per_cent_where_intervals_exclude() -> None:
    assert stats.speed_tests(Interval(1.1, 1.0, 1.21)).differs == pytest.approx(0.05, abs=1e-4)
    assert stats.speed_tests(Interval(1.1, 1.0, 1.21), freedom=4).differs == pytest.approx(0.05, abs=1e-3)
    assert stats.speed_tests(Interval(1.0, 0.9, 1.1)).differs == 1
    assert stats.speed_tests(Interval(1.0, 1 / 1.1, 1.1)).same == pytest.approx(0.05, abs=1e-4)
    assert stats.speed_tests(Interval(1.2, 1.1, 1.3)).same == 1
    assert stats.quality_tests(Interval(-1.0, -2.0, 0.0), margin=3.0) == pytest.approx((0.05, 1e-4), abs=1e-4)


def test_many_verdicts_need_more_each() -> None:
    one = Interval(1.1, 1.02, 1.19)
    alone = stats.speed_tests(one)
    assert stats.speed_verdict(one, alone) == "faster"
    many = stats.corrected([alone, *[stats.speed_tests(Interval(1.0, 0.95, 1.05))] * 19])
    assert stats.speed_verdict(one, many[0]) == "undecided"
    sure = Interval(1.5, 1.45, 1.55)
    assert stats.speed_verdict(sure, stats.corrected([stats.speed_tests(sure)] * 20)[0]) == "faster"


def test_an_interval_that_holds_together_with_others() -> None:
    one = Interval(1.1, 1.05, 1.1**2 / 1.05)
    assert stats.widened(one, 1).low == pytest.approx(1.05)
    wide = stats.widened(one, 20)
    factor = norm.ppf(1 - 0.05 / 40) / norm.ppf(0.975)
    assert math.log(wide.low) == pytest.approx(math.log(1.1) - factor * math.log(1.1 / 1.05), rel=0.01)
    assert stats.widened(one, 20, freedom=4).low < wide.low


@pytest.mark.parametrize(
    ("control", "claimed", "fails"),
    [
        (Interval(1.0, 0.97, 1.03), Interval(1.2, 1.1, 1.3), False),
        (Interval(1.05, 1.01, 1.09), Interval(1.2, 1.1, 1.3), True),  # the same model, surely of another speed
        (Interval(1.3, 0.9, 1.9), Interval(1.2, 1.1, 1.3), True),  # further apart than what is claimed
        (Interval(1.3, 0.9, 1.9), Interval(1.0, 0.99, 1.01), True),  # and than what "no difference" denies
        (Interval(1.05, 0.95, 1.2), Interval(1.0, 0.99, 1.01), False),
    ],
)
def test_when_a_control_fails(control: Interval, claimed: Interval, fails: bool) -> None:
    assert stats.control_fails([control], claimed) is fails


@pytest.mark.parametrize(
    ("low", "high", "margin", "words"),
    [
        (0.1, 0.5, 1.0, "better"),
        (-0.3, 0.4, 1.0, "no difference"),
        (-1.3, 0.4, 1.0, "undecided"),
        (-0.8, -0.2, 1.0, "not worse than the margin"),
        (-1.2, -0.2, 1.0, "worse"),
        (-0.2, -0.1, None, "worse"),
    ],
)
def test_quality_verdict(low: float, high: float, margin: float | None, words: str) -> None:
    assert stats.quality_verdict(Interval((low + high) / 2, low, high), margin) == words


def test_holm_by_hand() -> None:
    assert stats.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_order_and_never_shrinks(p_values: list[float]) -> None:
    corrected = stats.holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    ordered = [c for _, c in sorted(zip(p_values, corrected, strict=True))]
    assert ordered == sorted(ordered)
