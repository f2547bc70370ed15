"""Statistics of measurements: guarded percentiles, paired intervals, exact tests, and the words they support."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SPREAD = (2.5, 97.5)  # percentiles of the 95 % intervals
NORMAL = 1.96  # what Student's t tends to
STUDENT = (  # 97.5th percentile of Student's t for 1..30 degrees of freedom
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; what is not known is NaN: the ends, or all three."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    @property
    def bounded(self) -> bool:
        """Whether the ends are known."""
        return not math.isnan(self.low)


UNKNOWN = Interval(math.nan, math.nan, math.nan)


@lru_cache(maxsize=4096)
def samples_over(n: int, percentile: float, confidence: float = 0.99) -> int:
    """Return how many of `n` samples may lie over a bound of the percentile (in percent); -1 if there is no bound."""
    if not 1 < percentile < 100:
        raise ValueError(f"percentile is in percent, over 1 and under 100 (found {percentile})")
    share = 1 - percentile / 100
    below, over = 0.0, -1
    while over < n:
        k = over + 1
        term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(term + k * math.log(share) + (n - k) * math.log1p(-share))
        if below > 1 - confidence:
            return over
        over = k
    return over


@lru_cache(maxsize=256)
def samples_needed(percentile: float, over: int = 1, confidence: float = 0.99) -> int:
    """Return the least number of samples that bounds a percentile (in percent) with `over` samples above the bound."""
    high = over + 1
    while samples_over(high, percentile, confidence) < over:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if samples_over(middle, percentile, confidence) >= over else (middle, high)
    return high


def percentile_bound(
    samples: Sequence[float] | np.ndarray, percentile: float, confidence: float = 0.99
) -> float | None:
    """Return an upper bound of a percentile (in percent), for any distribution; None with too few samples."""
    over = samples_over(len(samples), percentile, confidence)
    return float(np.sort(np.asarray(samples, float))[len(samples) - 1 - over]) if over >= 1 else None


def median_and_iqr(samples: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the median and the distance between the quartiles."""
    ordered = np.sort(np.asarray(samples, float))
    low, middle, high = np.interp((0.25, 0.5, 0.75), np.linspace(0, 1, len(ordered)), ordered)
    return float(middle), float(high - low)


def interval_of(value: float, draws: np.ndarray) -> Interval:
    """Return `value` with the 95 % percentile interval of its bootstrap draws, widened to hold the value itself."""
    # two order statistics by hand: np.percentile costs more than the bootstrap it summarises
    ordered = np.sort(draws)
    places = [round(percent / 100 * (len(ordered) - 1)) for percent in SPREAD]
    return Interval(value, min(value, float(ordered[places[0]])), max(value, float(ordered[places[1]])))


@lru_cache(maxsize=16)
def _round_weights(rounds: int, draws: int, seed: int) -> np.ndarray:
    picks = np.random.default_rng(seed).integers(0, rounds, (draws, rounds))
    flat = picks + np.arange(draws)[:, None] * rounds
    return np.bincount(flat.ravel(), minlength=draws * rounds).reshape(draws, rounds).astype(np.float32)


def bootstrap_medians(rounds: Sequence[Sequence[float]], draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Return `draws` medians of all samples over resampled rounds; equal seeds resample equal round indices."""
    lengths = np.array([len(one) for one in rounds])
    samples = np.concatenate([np.asarray(one, float) for one in rounds])
    order = np.argsort(samples, kind="stable")
    ordered = samples[order]
    member = np.repeat(np.arange(len(lengths)), lengths)[order]
    seen = np.zeros((len(ordered), len(lengths)), np.float32)  # seen[i, r]: samples of round r among the i + 1 least
    seen[np.arange(len(ordered)), member] = 1
    seen = seen.cumsum(axis=0, dtype=np.float32)
    weights = _round_weights(len(lengths), draws, seed).T
    half = lengths.astype(np.float32) @ weights / 2
    # the median nearly always lies in the middle half of the ranks; all ranks are searched only when it does not
    for start, stop in ((len(ordered) // 4, len(ordered) - len(ordered) // 4), (0, len(ordered))):
        counts = seen[start:stop] @ weights
        lower = start + (counts < half).view(np.uint8).sum(axis=0, dtype=np.uint32).astype(int)
        upper = start + (counts <= half).view(np.uint8).sum(axis=0, dtype=np.uint32).astype(int)
        if (start == 0 or (lower > start).all()) and upper.max() < stop:
            break
    result: np.ndarray = (ordered[lower] + ordered[upper]) / 2
    return result


def time_over_inputs(rounds: Sequence[Sequence[float]], inputs: int) -> float:
    """Return the mean over inputs of each one's median time; rounds are whole turns over the inputs.

    One median of all would show the most frequent kind of input only, and a mean of all whatever disturbed the machine.
    """
    samples = np.concatenate([np.asarray(one, float) for one in rounds])
    return float(np.median(samples.reshape(-1, inputs), axis=0).mean())


def bootstrap_over_inputs(
    rounds: Sequence[Sequence[float]], inputs: int, draws: int = 2000, seed: int = 0
) -> np.ndarray:
    """Return `draws` such means over resampled rounds; equal seeds resample equal round indices."""
    each = np.stack([np.median(np.asarray(one, float).reshape(-1, inputs), axis=0) for one in rounds])
    picks = np.random.default_rng(seed).integers(0, len(rounds), (draws, len(rounds)))
    return np.concatenate([np.median(each[some], axis=1).mean(axis=1) for some in np.array_split(picks, 20)])


def ratio_of_medians(
    a_rounds: Sequence[Sequence[float]], b_rounds: Sequence[Sequence[float]], draws: int = 2000, seed: int = 0
) -> Interval:
    """Return the speed-up median(a) / median(b) by a bootstrap over rounds that ran side by side.

    Round i of both must have run together; where one has more rounds, those without a partner are left out.
    """
    n = min(len(a_rounds), len(b_rounds))
    a_rounds, b_rounds = a_rounds[:n], b_rounds[:n]
    ratios = bootstrap_medians(a_rounds, draws, seed) / bootstrap_medians(b_rounds, draws, seed)
    return interval_of(float(np.median(np.concatenate(a_rounds)) / np.median(np.concatenate(b_rounds))), ratios)


def mcnemar_exact(a_scores: np.ndarray, b_scores: np.ndarray) -> float:
    """Return the two-sided exact p-value of two models being right equally often, from 0/1 scores of equal examples."""
    a, b = np.asarray(a_scores, bool), np.asarray(b_scores, bool)
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    n, least = only_a + only_b, min(only_a, only_b)
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(least + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(term) for term in logs))


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    quality: Callable[[np.ndarray], float] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return quality(b) - quality(a) by a bootstrap over examples, the same for both; by default of means."""
    a, b = np.asarray(a), np.asarray(b)
    _check_paired(a, b)
    generator = np.random.default_rng(seed)
    n = len(a)
    if quality is not None:
        picks = (generator.integers(0, n, n) for _ in range(draws))
        found = np.array([quality(b[pick]) - quality(a[pick]) for pick in picks])
        return interval_of(float(quality(b) - quality(a)), found)
    difference = b.astype(float) - a.astype(float)
    gained, lost = np.count_nonzero(difference == 1), np.count_nonzero(difference == -1)
    if gained + lost == np.count_nonzero(difference):
        # 0/1 scores: only the discordant examples matter, and their counts are multinomial
        counts = generator.multinomial(n, [gained / n, lost / n, (n - gained - lost) / n], size=draws)
        return interval_of((gained - lost) / n, (counts[:, 0] - counts[:, 1]) / n)
    means = resampled_means(difference[None], example_weights(n, draws, seed))[0]
    return interval_of(float(difference.mean()), means)


def _check_paired(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or not len(a):
        raise ValueError(f"scores must be of the same examples, at least one (found shapes {a.shape} and {b.shape})")


@lru_cache(maxsize=4)
def example_weights(n: int, draws: int, seed: int = 0) -> np.ndarray:
    """Return how often each of `n` examples stands in each bootstrap draw, shape (n, draws), float32."""
    generator = np.random.default_rng(seed)
    counts = [np.bincount(generator.integers(0, n, n, dtype=np.int32), minlength=n) for _ in range(draws)]
    return np.stack(counts).astype(np.float32).T  # this memory order is twice as fast to multiply with


def resampled_means(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean scores of models on each draw of examples: (models, n) and (n, draws) give (models, draws)."""
    result: np.ndarray = (scores.astype(np.float32) @ weights).astype(float) / len(weights)
    return result


def mix_seeds(draws_by_seed: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return draws of the mean over seeds with the seeds' scatter: (seeds, draws) of a statistic give (draws,).

    What seeds differ by on these examples has two parts: how the trainings differ, and the luck of each on the examples
    drawn. The draws hold the second already, so only what is beyond it is added (as in an analysis of variance; two
    plain bootstraps would count it three times: Owen, "The pigeonhole bootstrap", 2007). It is added as draws of Student's
    t, since three values resampled know nothing of their own tails. Equal seeds of the generator weigh the trainings
    alike, so statistics mixed one by one keep what their trainings share.
    """
    seeds, draws = draws_by_seed.shape
    if seeds == 1:
        alone: np.ndarray = draws_by_seed[0]
        return alone
    everywhere: np.ndarray = draws_by_seed.mean(axis=0)
    means = draws_by_seed.mean(axis=1)
    apart = float(means.var(ddof=1))
    if not apart > 0:
        return everywhere
    luck = float((draws_by_seed - everywhere).var(axis=1).mean()) * seeds / (seeds - 1)
    share = max(0.0, 1 - luck / apart)
    mixed: np.ndarray = everywhere + math.sqrt(share) * (_seed_weights(seeds, draws, seed + 1) @ (means - means.mean()))
    return mixed


@lru_cache(maxsize=16)
def _seed_weights(seeds: int, draws: int, seed: int) -> np.ndarray:
    """Return weights (draws, seeds) whose products with deviations from a mean are draws of t x its standard error.

    Each draw stands there with both signs, so that an interval leans to neither side.
    """
    generator = np.random.default_rng(seed)
    half = (draws + 1) // 2
    chi_square = generator.chisquare(seeds - 1, (half, 1))
    found = generator.standard_normal((half, seeds)) / np.sqrt(seeds * chi_square)
    return np.concatenate([found, -found])[:draws]


def student(freedom: int) -> float:
    """Return the 97.5th percentile of Student's t."""
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else NORMAL + 2.5 / freedom


def non_inferior(difference: Interval, margin: float) -> bool:
    """Say whether the whole interval of a quality difference lies above -margin (same unit)."""
    return difference.low > -margin


SAME_SESSION = (
    0.02  # two processes of one session differ by this (address layout, page placement); no run resolves less
)
SAME_SPEED = 0.1  # "no difference" is said only where the interval excludes more than so much, or than the noise


def speed_verdict(speedup: Interval, noise: float = 0.0) -> str:
    """Say faster, slower or no difference; `noise` is how far the A/A row's ratio lies from 1, taken as 2 % at least.

    "no difference" is claimed only where the whole interval lies within 10 % of 1, or within the noise where that is more;
    else it is "undecided".
    """
    noise = max(noise, SAME_SESSION)
    if speedup.low > 1 and speedup.value > 1 + noise:
        return "faster"
    if speedup.high < 1 and speedup.value < 1 / (1 + noise):
        return "slower"
    same = 1 + max(noise, SAME_SPEED)
    return "no difference" if speedup.low >= 1 / same and speedup.high <= same else "undecided"


def quality_verdict(difference: Interval, margin: float | None = None) -> str:
    """Say what an interval of a quality difference shows, against a margin fixed beforehand (same unit).

    "no difference" is claimed only where the interval also excludes a loss of the margin; else it is "undecided".
    """
    if difference.low > 0:
        return "better"
    held = margin is None or non_inferior(difference, margin)
    if difference.high < 0:
        return "not worse than the margin" if held and margin is not None else "worse"
    return "no difference" if held else "undecided"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for testing all of them (Holm), in the given order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected
