"""Intervals hold planted truths at their nominal rate, in simulated studies."""

import math

import pytest
from simulation import World, study

from efflab.frontier.shift import Shift

TRIALS = 600


def inside(world: World, saved: float, multiplier: float, identity: bool = False) -> tuple[float, float]:
    """Return how often the interval of the technique's shift, and that of the whole distance, hold the truth."""
    own = whole = 0
    for trial in range(TRIALS):
        found, standing = study(world, trial, saved, multiplier, identity)
        assert isinstance(found, Shift), found
        own += found.multiplier.low <= multiplier <= found.multiplier.high
        whole += found.total.low <= multiplier * standing <= found.total.high
    return own / TRIALS, whole / TRIALS


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("saved", "multiplier"), [(1, 1), (2, 1.5), (2, 0.6), (1, 2)])
def test_a_planted_shift_is_covered_at_the_nominal_rate(seeds: int, saved: float, multiplier: float) -> None:
    own, whole = inside(World(seeds=seeds), saved, multiplier)
    assert 0.9 <= own <= 0.98
    assert whole >= 0.93


@pytest.mark.parametrize("scatter", [0.0, 0.02])
def test_the_identity_has_a_shift_of_one(scatter: float) -> None:
    own, whole = inside(World(timing_scatter=scatter), 1, 1, identity=True)
    assert own >= 0.93 if scatter else own == 1
    assert whole >= 0.93
    found, _ = study(World(timing_scatter=0), 0, 1, 1, identity=True)
    assert isinstance(found, Shift)
    assert (found.multiplier.value, found.multiplier.low, found.multiplier.high) == (1, 1, 1)
    assert math.isfinite(found.total.value)
