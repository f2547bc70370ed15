import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from efflab import statistics as stats
from efflab.statistics import Interval

MILLISECONDS = st.floats(0.01, 1e4)
ROUNDS = st.lists(st.lists(MILLISECONDS, min_size=1, max_size=6), min_size=2, max_size=8)


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


def plain_medians(rounds: list[list[float]], weights: np.ndarray) -> list[float]:
    """What bootstrap_medians must give, resample by resample."""
    taken = ([np.repeat(one, int(k)) for one, k in zip(rounds, row, strict=True)] for row in weights)
    return [float(np.median(np.concatenate(one))) for one in taken]


@given(ROUNDS, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_bootstrap_medians_equal_the_plain_loop(rounds: list[list[float]], seed: int) -> None:
    plain = plain_medians(rounds, stats._round_weights(len(rounds), 40, seed))
    np.testing.assert_allclose(stats.bootstrap_medians(rounds, 40, seed), plain)


def test_bootstrap_medians_search_all_ranks_when_rounds_drift() -> None:
    rounds = [[10.0**step] * 3 for step in range(6)]
    plain = plain_medians(rounds, stats._round_weights(6, 200, 0))
    np.testing.assert_allclose(stats.bootstrap_medians(rounds, 200, 0), plain)


def test_time_over_inputs_by_hand() -> None:
    # two kinds of input, one call of the second was disturbed
    rounds = [[1.0, 3.0], [1.0, 3.0, 1.0, 50.0], [1.0, 3.0]]
    assert stats.time_over_inputs(rounds, 2) == 2.0
    assert stats.time_over_inputs([[4.0, 1.0], [2.0]], 1) == 2.0


@given(st.lists(st.lists(MILLISECONDS, min_size=3, max_size=3), min_size=2, max_size=8), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_bootstrap_over_inputs_equals_the_plain_loop(rounds: list[list[float]], seed: int) -> None:
    picks = np.random.default_rng(seed).integers(0, len(rounds), (40, len(rounds)))
    plain = [stats.time_over_inputs([rounds[index] for index in some], 3) for some in picks]
    np.testing.assert_allclose(stats.bootstrap_over_inputs(rounds, 3, 40, seed), plain)


def test_sessions_over_inputs_are_resampled_by_the_same_rounds() -> None:
    rounds = [[float(index), 2.0 * index] for index in range(1, 7)]
    doubled = [[2 * time for time in one] for one in rounds]
    ratios = stats.bootstrap_over_inputs(doubled, 2) / stats.bootstrap_over_inputs(rounds, 2)
    np.testing.assert_allclose(ratios, 2.0)


@given(ROUNDS, st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_ratio_of_scaled_times_is_the_scale_exactly(rounds: list[list[float]], scale: float) -> None:
    scaled = [[sample * scale for sample in one] for one in rounds]
    ratio = stats.ratio_of_medians(scaled, rounds, draws=50)
    assert ratio.low == pytest.approx(scale)
    assert ratio.high == pytest.approx(scale)


def test_ratio_interval_covers_the_truth_and_excludes_it_at_its_rate() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        drift = generator.normal(0, 0.05, (20, 1))  # hits both sessions of a round alike
        a = 4 * np.exp(drift + generator.normal(0, 0.05, (20, 10)))
        b = 2 * np.exp(drift + generator.normal(0, 0.05, (20, 10)))
        ratio = stats.ratio_of_medians(a.tolist(), b.tolist(), draws=400, seed=trial)
        covered += ratio.low <= 2 <= ratio.high
    assert 180 <= covered <= 200


def test_rounds_without_a_partner_are_left_out() -> None:
    assert stats.ratio_of_medians([[2.0], [2.0], [99.0]], [[1.0], [1.0]]).value == 2


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
    ("interval", "noise", "words"),
    [
        (Interval(1.2, 1.1, 1.3), 0, "faster"),
        (Interval(0.8, 0.7, 0.9), 0, "slower"),
        (Interval(1.02, 0.99, 1.04), 0, "no difference"),
        (Interval(1.02, 1.01, 1.03), 0.03, "no difference"),
        (Interval(0.98, 0.97, 0.99), 0.03, "no difference"),
        (Interval(1.9, 0.03, 31.4), 0, "undecided"),
        (Interval(1.0, 0.92, 1.099), 0, "no difference"),
        (Interval(1.0, 0.92, 1.101), 0, "undecided"),
        (Interval(1.0, 0.9, 1.0), 0, "undecided"),  # 1 / 1.1 is 0.909
        (Interval(1.0, 0.9, 1.0), 0.12, "no difference"),
        (Interval(1.015, 1.01, 1.2), 0, "undecided"),
    ],
)
def test_speed_verdict(interval: Interval, noise: float, words: str) -> None:
    assert stats.speed_verdict(interval, noise) == words


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
