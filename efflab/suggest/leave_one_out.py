"""What suggestions are worth: every baseline in turn is hidden, and the trials are counted until a recipe is near its best.

A trial is one measured recipe of those that the records hold for the baseline at that place; near is within 5 % of the best of
them. Four ways to choose the next trial: in random order (worked out exactly); plain search, a Gaussian process that knows
nothing but its own trials (the first of them random, then the largest mean plus two standard deviations); the list of
`suggest`, made from the other baselines' records; and the same list, made anew after every trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from efflab.suggest.advice import NEAR_BEST, REACH_90, data_of, gaps, has_basis, nearest_data, order
from efflab.suggest.distances import TrialContext
from efflab.suggest.gaussian_process import Belief, Datum, Observations, believe, believed, learn
from efflab.suggest.outcome import Outcome
from efflab.suggest.past_studies import Experience

FEWEST_RECIPES = 5  # known at a place, from which on an order can be better or worse
RUNS = 50  # of plain search, each with another first trial and another order of ties
HOPE = 2.0  # standard deviations; plain search took more trials with 0, 0.5 and 1
BOOTSTRAPS = 2000
METHODS = ("random", "search", "suggest", "suggest_and_learn")


class LeftOut(NamedTuple):
    """One hidden baseline at one place: trials until near its best recipe, by each method."""

    baseline: str
    backend: str
    batch_size: int
    recipes: int  # known there
    near_best: int  # of them
    random: float
    search: float
    suggest: float
    suggest_and_learn: float
    listed: int  # recipes that suggest had a basis for
    inside: int  # of them, those whose gain lay in the 90 % interval
    missing: str  # why it had none, or ""


@dataclass(frozen=True)
class Summary:
    """Trials by method, each baseline counting once, and how many fewer `suggest` takes, with 95 % intervals over baselines."""

    baselines: int
    trials: dict[str, float]
    saved: dict[str, tuple[float, float, float]]  # method -> its trials minus those of suggest, low, high
    learning: tuple[float, float, float]  # trials of plain search minus those of suggest that orders anew after each
    first: float  # share of places, baselines weighing alike, where the first suggestion was near the best
    inside: float  # share of all gains that lay in the 90 % interval given for them


def random_trials(good: int, count: int) -> float:
    """Return the expected trials until the first of `good` among `count` in random order: (count + 1) / (good + 1)."""
    return (count + 1) / (good + 1)


def leave_one_out(experience: Experience, goal: str, hide: str = "baseline") -> list[LeftOut]:
    """Return a row for each baseline and place with at least five recipes; `hide`: its "baseline" alone, or its "family".

    The laws behind other baselines' M were fitted with the hidden one among the dense members; no outcome of a recipe on it
    is known to those who suggest.
    """
    by_context: dict[TrialContext, list[Datum]] = {}
    for datum in data_of(experience.outcomes, goal):
        by_context.setdefault(datum.context, []).append(datum)
    found: list[LeftOut] = []
    learnt: dict[str, np.ndarray] = {}
    for context, known in by_context.items():
        if len(known) < FEWEST_RECIPES:
            continue
        model = context.model
        hidden = model.family if hide == "family" and model.family else model.name
        others = experience.without(partial(_is_of, hidden))
        missing = gaps(others, model, context.place, goal)
        data = nearest_data(data_of(others.outcomes, goal), context)
        evidence = Observations(data, context, [one.recipe for one in known])
        if not missing and hidden not in learnt:
            learnt[hidden] = learn(evidence)
        belief = None if missing else believe(evidence, learnt[hidden])
        found.append(_row(context, known, belief, "; ".join(missing)))
    return found


def _is_of(hidden: str, one: Outcome) -> bool:
    return hidden in (one.model.name, one.model.family)


def _row(context: TrialContext, known: Sequence[Datum], belief: Belief | None, missing: str) -> LeftOut:
    values = np.array([one.value for one in known])
    good = values >= values.max() + math.log(NEAR_BEST)
    chance, search = random_trials(int(good.sum()), len(known)), search_trials(known, good)
    listed = np.flatnonzero(has_basis(belief)) if belief else np.array([], int)
    return LeftOut(
        baseline=context.model.name, backend=context.place.backend, batch_size=context.place.batch_size,
        recipes=len(known), near_best=int(good.sum()), random=chance, search=search,
        suggest=listed_trials(belief, listed, good) if belief else chance,
        suggest_and_learn=learning_trials(belief, known, good) if belief else search,
        listed=len(listed), inside=sum(_inside(belief, known[at], at) for at in listed) if belief else 0, missing=missing,
    )  # fmt: skip


def _inside(belief: Belief, datum: Datum, at: int) -> bool:
    """Say whether a hidden gain lay in the interval that was given for it, its own error of measurement allowed for."""
    reach = REACH_90 * math.sqrt(max(0.0, float(belief.covariance[at, at])) + belief.noise + datum.se**2)
    return abs(datum.value - float(belief.mean[at])) <= reach


def listed_trials(belief: Belief, listed: np.ndarray, good: np.ndarray) -> float:
    """Return the trials down the list of recipes with a basis; where none of them is good, the rest goes in random order."""
    some = [int(at) for at in listed]
    for trial, rank in enumerate(order(belief.of(some)), 1):
        if good[some[rank]]:
            return float(trial)
    return len(some) + random_trials(int(good.sum()), len(good) - len(some))


def learning_trials(belief: Belief, known: Sequence[Datum], good: np.ndarray) -> float:
    """Return the trials where each one teaches: the list is made anew from what is then expected of the recipes untried."""
    untried = list(range(len(known)))
    while True:
        at = untried[order(belief.of(untried))[0]]
        untried.remove(at)
        if good[at]:
            return float(len(known) - len(untried))
        belief = belief.after(at, known[at].value, known[at].se)


def search_trials(known: Sequence[Datum], good: np.ndarray) -> float:
    """Return the mean trials of plain search, which knows likeness of recipes as believed before all data, and its trials."""
    start = believe(Observations([], known[0].context, [one.recipe for one in known]), believed())
    return float(np.mean([_search(start, known, good, seed) for seed in range(RUNS)]))


def _search(start: Belief, known: Sequence[Datum], good: np.ndarray, seed: int) -> int:
    untried = list(np.random.default_rng(seed).permutation(len(known)))
    tried: list[int] = []
    at = untried[0]
    while True:
        untried.remove(at)
        tried.append(at)
        if good[at]:
            return len(tried)
        middle = float(np.mean([known[one].value for one in tried]))
        belief = start._replace(mean=np.full(len(known), middle))
        for one in tried:
            belief = belief.after(one, known[one].value, known[one].se)
        hopes = belief.mean + HOPE * np.sqrt(np.clip(np.diag(belief.covariance), 0, None))
        at = max(untried, key=lambda one: float(hopes[one]))


def summary(rows: Sequence[LeftOut], seed: int = 0) -> Summary | None:
    """Return the trials of all methods over baselines; None where there is no row."""
    names = list(dict.fromkeys(row.baseline for row in rows))
    if not names:
        return None
    trials = {
        method: np.array([np.mean([getattr(row, method) for row in rows if row.baseline == name]) for name in names])
        for method in METHODS
    }
    picks = np.random.default_rng(seed).integers(0, len(names), (BOOTSTRAPS, len(names)))

    def fewer(other: str, method: str) -> tuple[float, float, float]:
        gap = trials[other] - trials[method]
        low, high = np.percentile(gap[picks].mean(axis=1), (2.5, 97.5))
        return float(gap.mean()), float(low), float(high)

    saved = {method: fewer(method, "suggest") for method in METHODS if method != "suggest"}
    first = np.mean([np.mean([row.suggest == 1 for row in rows if row.baseline == name]) for name in names])
    means = {method: float(values.mean()) for method, values in trials.items()}
    inside = sum(row.inside for row in rows) / max(1, sum(row.listed for row in rows))
    return Summary(len(names), means, saved, fewer("search", "suggest_and_learn"), float(first), inside)
