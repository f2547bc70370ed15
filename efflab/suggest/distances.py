"""How far recipes, and the contexts in which they were tried, lie apart: one distance for each aspect, none weighted.

Every distance is a sum of differences of coordinates, so exp(-distance) is a proper kernel (a Laplacian one) whatever the
weights of the aspects. A setting of a technique that a recipe does not have lies at the reference of that setting, as in
Swersky et al., "Raiders of the Lost Architecture: Kernels for Bayesian Optimization in Conditional Parameter Spaces" (2013).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from efflab.records.step_settings import side_by_side
from efflab.suggest.outcome import COUNTED, Model, Recipe, Target, settings_of

RECIPE_ASPECTS = ("techniques", "settings", "order")
CONTEXT_ASPECTS = ("baseline", "task", "kind", "macs", "params", "error", "backend", "batch", "machine")
LEAST = 1e-9  # stands in for a zero, which has no logarithm
HALF = 0.5  # what each of two words that differ adds, so that together they differ by one
Coordinates = Mapping[Any, float]


class TrialContext(NamedTuple):
    """A baseline at a place, with nothing in it that a goal does not depend on."""

    model: Model
    place: Target


def context_of(model: Model, place: Target, goal: str) -> TrialContext:
    """Return the context of an outcome: what is counted, and quality, depends on no machine and no batch size."""
    return TrialContext(model, Target(place.backend, 1, "") if goal in (*COUNTED, "error") else place)


def recipe_distances(recipes: Sequence[Recipe]) -> np.ndarray:
    """Return how far recipes lie apart, shape (aspects, recipes, recipes), in the order of RECIPE_ASPECTS.

    A technique that only one of two has is 1. Settings: words that differ are 1, positive numbers lie as far apart as their
    natural logarithms, others as they are. Order: 1 for each pair of techniques that stands the other way round.
    """
    names = [[name for name, _ in recipe] for recipe in recipes]
    techniques = [{name: float(own.count(name)) for name in own} for own in names]
    told = [[(name, _flat(settings_of((name, text)))) for name, text in recipe] for recipe in recipes]
    references = _references(pair for own in told for pair in own)
    settings = [_settings(own, references) for own in told]
    pairs = [set(combinations(own, 2)) for own in names]
    seen = set().union(*pairs) if pairs else set()
    both_ways = {pair for pair in seen if pair[0] < pair[1] and pair[::-1] in seen}
    order = [{a: HALF * ((a in own) - (a[::-1] in own)) for a in both_ways} for own in pairs]
    return np.stack([_apart(techniques), _apart(settings), _apart(order)])


def context_distances(contexts: Sequence[TrialContext], to: Sequence[TrialContext] | None = None) -> np.ndarray:
    """Return how far contexts lie from others, by default from each other: (aspects, others, contexts), as CONTEXT_ASPECTS.

    Words differ by 1 (a backend under other settings by a half), numbers by their natural logarithms.
    """
    mine, others = ([_aspects(one) for one in some] for some in (contexts, contexts if to is None else to))
    return np.stack([_apart([one[name] for one in mine], [one[name] for one in others]) for name in CONTEXT_ASPECTS])


def _aspects(context: TrialContext) -> dict[str, Coordinates]:
    model, place = context
    backend = place.backend.partition("[")[0]
    words = {"baseline": model.name, "task": model.task, "kind": model.kind, "machine": place.machine}
    numbers = {"macs": model.macs, "params": model.params, "error": model.error, "batch": float(place.batch_size)}
    return {
        **{name: {word: HALF} for name, word in words.items()},
        **{name: {"": math.log(max(value, LEAST))} for name, value in numbers.items()},
        "backend": {backend: HALF / 2, (backend, place.backend): HALF / 2},
    }


def _flat(settings: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return settings as pairs, those of sections among them; a list counts as its JSON text."""
    return [
        (name, value if isinstance(value, int | float | str) else json.dumps(value))
        for name, value in side_by_side(settings).items()
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(value: float) -> float:
    """Return a number on its scale; what is not positive keeps its own, on which 1 follows 0 as e follows 1."""
    return math.log(value) + 1 if value > 0 else value


def _word(value: Any) -> str:
    return "a number" if _is_number(value) else str(value)


def _references(steps: Iterable[tuple[str, list[tuple[str, Any]]]]) -> dict[tuple[str, str], tuple[str, float]]:
    """Return, for each setting of each technique, the word seen most often and the middle of its numbers on their scale."""
    seen: dict[tuple[str, str], list[Any]] = {}
    for technique, settings in steps:
        for name, value in settings:
            seen.setdefault((technique, name), []).append(value)
    return {
        key: (
            Counter(map(_word, values)).most_common(1)[0][0],
            float(np.median([_scaled(value) for value in values if _is_number(value)] or [0.0])),
        )
        for key, values in seen.items()
    }


def _settings(
    told: list[tuple[str, list[tuple[str, Any]]]], references: dict[tuple[str, str], tuple[str, float]]
) -> Coordinates:
    found: dict[tuple[str, ...], float] = {}

    def add(key: tuple[str, ...], value: float) -> None:
        found[key] = found.get(key, 0.0) + value

    for technique, settings in told:
        for name, value in settings:
            usual, middle = references[technique, name]
            if _word(value) != usual:
                add((technique, name, "not", usual), HALF)
                add((technique, name, _word(value)), HALF)
            if _is_number(value):
                add((technique, name), _scaled(value) - middle)
    return found


def _apart(points: Sequence[Coordinates], to: Sequence[Coordinates] | None = None) -> np.ndarray:
    """Return the sums of absolute differences of coordinates, (to, points); those not given are 0."""
    others = points if to is None else to
    found = np.zeros((len(others), len(points)))
    for key in dict.fromkeys(key for point in (*points, *others) for key in point):
        mine, theirs = (np.array([point.get(key, 0.0) for point in some]) for some in (points, others))
        found += np.abs(theirs[:, None] - mine)
    return found
