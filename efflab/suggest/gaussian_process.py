"""A Gaussian process over outcomes: recipes that are alike give alike gains on baselines and backends that are alike.

The kernel is a sum of three parts, each a product of exp(-distance) over aspects: what a recipe gives everywhere, what it gives
in contexts like this one, and what every recipe gives in such a context. Variances and the weights of the aspects are
those of largest posterior density under broad log-normal priors (Rasmussen and Williams, "Gaussian Processes for Machine
Learning", 2006, sections 2.2, 5.4.1; the multi-task product kernel: Bonilla et al., NIPS 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from efflab.suggest.distances import (
    CONTEXT_ASPECTS,
    RECIPE_ASPECTS,
    TrialContext,
    context_distances,
    recipe_distances,
)
from efflab.suggest.outcome import Recipe

MOST_FITTED = 300  # outcomes from which variances and weights are learnt; more change them little and take n**3
PARTS = ("everywhere", "here", "context")
NAMES = (*PARTS, "noise", *RECIPE_ASPECTS, *CONTEXT_ASPECTS)
# what is believed before any outcome: variances in squares of ln M, then how fast likeness falls with each aspect's distance
PRIOR = {
    "everywhere": 0.06, "here": 0.06, "context": 0.02, "noise": 0.003,
    "techniques": 0.5, "settings": 0.3, "order": 0.3,
    "baseline": 0.1, "task": 0.3, "kind": 0.7, "macs": 0.1, "params": 0.1, "error": 0.1,
    "backend": 0.5, "batch": 0.05, "machine": 0.5,
}  # fmt: skip
PRIOR_SD = 1.0  # of the logarithms of all of them


Places = tuple[np.ndarray, np.ndarray]  # of recipes and of contexts among the distances


class Datum(NamedTuple):
    """One observation: `value` is the logarithm of a ratio, `se` its standard error."""

    context: TrialContext
    recipe: Recipe
    value: float
    se: float


class Belief(NamedTuple):
    """What is expected of some recipes in one context: means and covariance of the logarithm, and its variance unlearnt."""

    mean: np.ndarray
    covariance: np.ndarray
    prior_variance: float
    noise: float  # variance by which one study's number differs from the next

    def of(self, some: Sequence[int]) -> Belief:
        """Return what is expected of some of the recipes."""
        return self._replace(mean=self.mean[list(some)], covariance=self.covariance[np.ix_(some, some)])

    def after(self, at: int, value: float, se: float) -> Belief:
        """Return what is expected once recipe `at` was tried and gave `value`."""
        gain = self.covariance[:, at] / (self.covariance[at, at] + se**2 + self.noise)
        return self._replace(
            mean=self.mean + gain * (value - self.mean[at]),
            covariance=self.covariance - np.outer(gain, self.covariance[at]),
        )


@dataclass(frozen=True)
class Observations:
    """Data with the distances between all their contexts and recipes, those asked for included."""

    data: Sequence[Datum]
    asked: TrialContext
    candidates: Sequence[Recipe]

    @cached_property
    def _recipes(self) -> dict[Recipe, int]:
        return {one: at for at, one in enumerate(dict.fromkeys([*(d.recipe for d in self.data), *self.candidates]))}

    @cached_property
    def _contexts(self) -> dict[TrialContext, int]:
        return {one: at for at, one in enumerate(dict.fromkeys([*(d.context for d in self.data), self.asked]))}

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances of recipes and of contexts, each once, by aspect."""
        return recipe_distances(list(self._recipes)), context_distances(list(self._contexts))

    def covariance(self, strengths: np.ndarray, mine: Places, theirs: Places) -> np.ndarray:
        """Return the kernel between places: the sum of its three parts."""
        alike, near = likenesses(strengths, *self.distances)
        everywhere, here, context = strengths[: len(PARTS)]
        a, c = alike[mine[0]][:, theirs[0]], near[mine[1]][:, theirs[1]]
        found: np.ndarray = everywhere * a + here * a * c + context * c
        return found

    def places(self, data: bool) -> Places:
        """Return where in `distances` the data (or what is asked) have their recipe and their context."""
        if data:
            at = [(self._recipes[one.recipe], self._contexts[one.context]) for one in self.data]
        else:
            at = [(self._recipes[one], self._contexts[self.asked]) for one in self.candidates]
        recipes, contexts = np.array(at, int).reshape(-1, 2).T
        return recipes, contexts


def likenesses(strengths: np.ndarray, recipes: np.ndarray, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how alike recipes are, and contexts, from 0 to 1, from distances by aspect."""
    weights = strengths[len(PARTS) + 1 :]
    alike: np.ndarray = np.exp(-np.tensordot(weights[: len(recipes)], recipes, 1))
    near: np.ndarray = np.exp(-np.tensordot(weights[len(recipes) :], contexts, 1))
    return alike, near


def believed() -> np.ndarray:
    """Return the strengths believed before any outcome, in the order of NAMES."""
    return np.array([PRIOR[name] for name in NAMES])


def learn(evidence: Observations, seed: int = 0) -> np.ndarray:
    """Return the strengths of largest posterior density, in the order of NAMES; those believed where there are no data."""
    from scipy.optimize import minimize

    if not evidence.data:
        return believed()
    chosen = np.arange(len(evidence.data))
    if len(chosen) > MOST_FITTED:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, MOST_FITTED, replace=False))
    at_recipes, at_contexts = (places[chosen] for places in evidence.places(data=True))
    recipes, contexts = evidence.distances
    recipes, contexts = recipes[:, at_recipes][:, :, at_recipes], contexts[:, at_contexts][:, :, at_contexts]
    values = np.array([one.value for one in evidence.data])[chosen]
    values = values - values.mean()
    squares = np.array([one.se for one in evidence.data])[chosen] ** 2
    start = np.log(believed())

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        """The negative log posterior and its gradient."""
        strengths = np.exp(logs)
        alike, near = likenesses(strengths, recipes, contexts)
        parts = strengths[0] * alike, strengths[1] * alike * near, strengths[2] * near
        seen = parts[0] + parts[1] + parts[2]
        seen[np.diag_indices_from(seen)] += squares + strengths[len(PARTS)]
        try:
            factor = np.linalg.cholesky(seen)
        except np.linalg.LinAlgError:
            return 1e25, np.zeros_like(logs)
        inverse = np.linalg.inv(seen)
        alpha = inverse @ values
        away = (logs - start) / PRIOR_SD
        loss = 0.5 * values @ alpha + np.log(np.diag(factor)).sum() + 0.5 * away @ away
        slope = 0.5 * (inverse - np.outer(alpha, alpha))
        by_part = [float((slope * part).sum()) for part in parts]
        falls = slope * (parts[0] + parts[1]), slope * (parts[1] + parts[2])
        weights = strengths[len(PARTS) + 1 :]
        by_aspect = [
            -weight * float((falls[index >= len(recipes)] * distance).sum())
            for index, (weight, distance) in enumerate(zip(weights, [*recipes, *contexts], strict=True))
        ]
        gradient = np.array([*by_part, strengths[len(PARTS)] * np.trace(slope), *by_aspect])
        return float(loss), gradient + away / PRIOR_SD

    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=[(one - 4, one + 4) for one in start],
                     options={"maxiter": 60})  # fmt: skip
    strengths: np.ndarray = np.exp(found.x)
    return strengths


def believe(evidence: Observations, strengths: np.ndarray) -> Belief:
    """Return what the data let one expect of the candidates in the context asked for."""
    mine, theirs = evidence.places(data=False), evidence.places(data=True)
    prior = evidence.covariance(strengths, mine, mine)
    variance, noise = float(strengths[: len(PARTS)].sum()), float(strengths[len(PARTS)])
    if not evidence.data:
        return Belief(np.zeros(len(prior)), prior, variance, noise)
    values = np.array([one.value for one in evidence.data])
    mean = values.mean()
    seen = evidence.covariance(strengths, theirs, theirs)
    seen += np.diag(np.array([one.se for one in evidence.data]) ** 2 + noise)
    cross = evidence.covariance(strengths, theirs, mine)
    solved = np.linalg.solve(seen, np.column_stack([values - mean, cross]))
    return Belief(mean + cross.T @ solved[:, 0], prior - cross.T @ solved[:, 1:], variance, noise)
