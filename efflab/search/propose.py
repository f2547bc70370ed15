"""Proposes the next points of a search by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011; Ozaki et al. 2022)."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from efflab.foundation.errors import Unavailable
from efflab.recipe.search_goal import Goal
from efflab.recipe.search_space import Dimension, Space, dimensions, name_of, settle, size
from efflab.records.trial import Point, Trial

if TYPE_CHECKING:
    import optuna

TRIES = 20  # proposals that repeat a point, before one is drawn by chance
DRAWS = 2_000  # before a space is taken to be used up
WORST = 1e9  # excess told of trials that gave no numbers


def propose(space: Space, goal: Goal, trials: Sequence[Trial], count: int, seed: int) -> list[Point]:
    """Return up to `count` points that no trial has had; fewer, or none, where the space has no more.

    The same trials and seed give the same points: an interrupted search goes on as if it had not been. Raises
    Unavailable where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise Unavailable("a search needs Optuna: pip install 'efflab[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    generator = random.Random(f"{seed}/{len(trials)}")
    seen = {name_of(trial["point"]) for trial in trials}
    found: list[Point] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = _study(space, goal, trials, generator.getrandbits(31))
        for _ in range(count):
            point = _new_point(study, space, seen) or _by_chance(space, seen, generator)
            if point is None:
                break
            seen.add(name_of(point))
            found.append(point)
    return found


def _study(space: Space, goal: Goal, trials: Sequence[Trial], seed: int) -> optuna.Study:
    import optuna
    from optuna.trial import create_trial

    sampler = optuna.samplers.TPESampler(
        seed=seed,
        multivariate=True,
        group=True,  # settings of a way that was not taken do not exist
        n_startup_trials=int(min(10, max(4, size(space) // 10))),
    )
    study = optuna.create_study(directions=["minimize"] * len(goal.minimize), sampler=sampler)
    known = {dimension.name: dimension for dimension in dimensions(space) if dimension.size > 1}
    for trial in trials:
        params = {name: choice for name, choice in trial["point"].items() if name in known}
        study.add_trial(
            create_trial(
                params=params,
                distributions={name: _distribution(known[name]) for name in params},
                values=[trial["values"].get(name, WORST) for name in goal.minimize],
                constraints={"bounds": _excess(goal, trial)},
            )
        )
    return study


def _excess(goal: Goal, trial: Trial) -> float:
    """Return by how much a trial misses the bounds; one that was not finished always does."""
    if trial["state"] == "done":
        return goal.excess(trial["values"])
    known = goal.excess(trial["values"], tuple(trial["values"]))
    return known + (1.0 if trial["state"] == "stopped" else WORST)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if not dimension.values:
        if dimension.whole:
            return distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    if dimension.ordered:
        return distributions.IntDistribution(0, len(dimension.values) - 1)
    return distributions.CategoricalDistribution(tuple(range(len(dimension.values))))


def _new_point(study: optuna.Study, space: Space, seen: set[str]) -> Point | None:
    import optuna

    for _ in range(TRIES):
        trial = study.ask()
        point, _, _ = settle(space, partial(_suggested, trial))
        if name_of(point) not in seen:
            return point
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return None


def _suggested(trial: optuna.Trial, dimension: Dimension) -> Any:
    name, low, high = dimension.name, dimension.low, dimension.high
    if not dimension.values:
        if dimension.whole:
            return trial.suggest_int(name, int(low), int(high), log=dimension.log)
        return trial.suggest_float(name, low, high, log=dimension.log)
    if dimension.ordered:
        return trial.suggest_int(name, 0, len(dimension.values) - 1)
    return trial.suggest_categorical(name, tuple(range(len(dimension.values))))


def _by_chance(space: Space, seen: set[str], generator: random.Random) -> Point | None:
    for _ in range(DRAWS):
        point, _, _ = settle(space, lambda dimension: dimension.draw(generator))
        if name_of(point) not in seen:
            return point
    return None
