import math
from itertools import pairwise

import numpy as np
import pytest
from outcomes import HERE, model, prune, recipe

from efflab.suggest.distances import TrialContext
from efflab.suggest.gaussian_process import NAMES, PRIOR_SD, Datum, Observations, believe, believed, learn

CONTEXT = TrialContext(model(), HERE)


def truth(ratio: float) -> float:
    """A gain with its best at a ratio of 0.3."""
    return 0.5 - 2 * (math.log(ratio) - math.log(0.3)) ** 2


def test_a_known_function_is_recovered_between_the_data():
    ratios = np.geomspace(0.1, 0.9, 25)
    data = [Datum(CONTEXT, prune(ratio), truth(ratio), 0.001) for ratio in ratios]
    between = [float(math.sqrt(a * b)) for a, b in pairwise(ratios)]
    evidence = Observations(data, CONTEXT, [prune(ratio) for ratio in between])
    belief = believe(evidence, learn(evidence))
    assert np.abs(belief.mean - [truth(ratio) for ratio in between]).max() < 0.1
    assert (np.diag(belief.covariance) > 0).all()


def test_one_observation_is_the_textbooks():
    evidence = Observations(
        [Datum(CONTEXT, prune(0.3), 0.0, 0.1), Datum(CONTEXT, prune(0.3), 1.0, 0.1)], CONTEXT, [prune(0.3)]
    )
    strengths = believed()
    prior, noise = strengths[:3].sum(), strengths[3] + 0.01
    belief = believe(evidence, strengths)
    assert belief.mean[0] == pytest.approx(0.5)
    assert belief.covariance[0, 0] == pytest.approx(prior - 2 * prior**2 / (2 * prior + noise))


def test_without_data_the_prior_is_believed():
    evidence = Observations([], CONTEXT, [prune(0.3), recipe("cast")])
    belief = believe(evidence, learn(evidence))
    assert belief.mean.tolist() == [0, 0]
    assert np.allclose(np.diag(belief.covariance), belief.prior_variance)


def test_a_trial_later_is_a_trial_before():
    strengths = believed()
    first, second = Datum(CONTEXT, prune(0.3), 0.4, 0.02), Datum(CONTEXT, prune(0.5), -0.4, 0.05)
    asked = [prune(0.3), prune(0.5), recipe("cast")]
    start = believe(Observations([], CONTEXT, asked), strengths)
    later = start.after(0, first.value, first.se).after(1, second.value, second.se)
    both = believe(Observations([first, second], CONTEXT, asked), strengths)
    assert np.allclose(later.mean, both.mean)  # the mean of both is 0, as it is without data
    assert np.allclose(later.covariance, both.covariance)


def test_learning_takes_the_steepest_way_its_gradient_says(monkeypatch):
    generator = np.random.default_rng(0)
    contexts = [CONTEXT, TrialContext(model("cifar10-vit-w8", 1e7, task="cifar10"), HERE)]
    recipes = [prune(0.2), prune(0.4), recipe("cast"), recipe("cast", "export_onnx")]
    data = [Datum(one, what, float(generator.normal()), 0.1) for one in contexts for what in recipes]
    seen = {}

    def check(cost, start, **_):
        _, gradient = cost(start)
        steps = np.eye(len(start)) * 1e-5
        slopes = [(cost(start + step)[0] - cost(start - step)[0]) / 2e-5 for step in steps]
        seen["error"] = np.abs(gradient - slopes).max()

        class Found:
            x = start

        return Found

    monkeypatch.setattr("scipy.optimize.minimize", check)
    assert learn(Observations(data, CONTEXT, [])) == pytest.approx(believed())
    assert seen["error"] < 1e-5


def test_what_no_data_vary_keeps_its_prior():
    data = [Datum(CONTEXT, prune(ratio), truth(ratio), 0.01) for ratio in (0.2, 0.3, 0.5)]
    found = dict(zip(NAMES, learn(Observations(data, CONTEXT, [])), strict=True))
    prior = dict(zip(NAMES, believed(), strict=True))
    assert found["machine"] == pytest.approx(prior["machine"])  # one machine: nothing can be learnt of another
    assert abs(math.log(found["settings"] / prior["settings"])) < 4 * PRIOR_SD
