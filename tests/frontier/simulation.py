"""Simulated studies whose truth is known: a dense family with its own scatter, seeds, test examples, and one technique."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from efflab.frontier.shift import Point, Shift, family_of, shift_of
from efflab.statistics import example_weights, resampled_means

A, B = 1.0, -0.25  # error = 10 compute**-0.25: power 4
COMPUTE = np.array([1e5, 4e5, 9e5, 1.6e6, 3.6e6, 6.4e6])
BASE = 4  # which member is the baseline
EXAMPLES, DRAWS = 2000, 400


@dataclass(frozen=True)
class World:
    """How noisy a simulated study is; scatters are standard deviations of log10(error)."""

    member_scatter: float = 0.01  # of a width about the law, alike for all its seeds
    seed_scatter: float = 0.012  # of one training, which what is made of that model inherits
    step_scatter: float = 0.006  # of a technique's own training
    seeds: int = 3
    timing_scatter: float = 0.02  # of log10 of a variant's compute; 0 for counted work


def study(
    world: World, trial: int, saved: float, multiplier: float, identity: bool = False
) -> tuple[Shift | str, float]:
    """Return what is found of a technique that saves `saved` x the compute and shifts by `multiplier`.

    And the baseline's true standing: how far its width lies from the law that made the family.
    """
    generator = np.random.default_rng(trial)
    members = A + B * np.log10(COMPUTE) + generator.normal(0, world.member_scatter, len(COMPUTE))
    trained = members[:, None] + generator.normal(0, world.seed_scatter, (len(COMPUTE), world.seeds))
    # the law through the baseline at the variant's compute, less error by M**b
    moved = trained[BASE] + B * (np.log10(multiplier) - np.log10(saved))
    moved = moved if identity else moved + generator.normal(0, world.step_scatter, world.seeds)
    hardness = generator.normal(size=EXAMPLES)
    luck = generator.normal(size=(len(COMPUTE), world.seeds, EXAMPLES))
    own = luck[BASE] if identity else 0.8 * luck[BASE] + 0.6 * generator.normal(size=(world.seeds, EXAMPLES))
    weights = example_weights(EXAMPLES, DRAWS, 0)

    def seen(compute: float, logs: np.ndarray, noise: np.ndarray) -> Point:
        wrong = 0.7 * hardness + np.sqrt(1 - 0.49) * noise < norm.ppf(10**logs)[:, None]
        return Point(compute, float(wrong.mean()), None, resampled_means(wrong.astype(float), weights))

    points = [seen(*one) for one in zip(COMPUTE, trained, luck, strict=True)]
    read, spread = np.zeros(2), world.timing_scatter
    if spread:
        read = generator.normal(0, spread, 2)
    times = [10 ** (generator.normal(0, spread, DRAWS)) if spread else np.ones(DRAWS) for _ in range(2)]
    base_compute, compute = COMPUTE[BASE] * 10 ** read[0], COMPUTE[BASE] / saved * 10 ** read[1]
    base = points[BASE]._replace(compute=base_compute, compute_draws=base_compute * times[0])
    variant = seen(compute, moved, own)._replace(compute_draws=compute * times[1])
    points[BASE] = base
    standing = 10 ** ((members[BASE] - A) / B) / COMPUTE[BASE]
    return shift_of(family_of(points, DRAWS, trial), variant, base, world.seeds), standing
