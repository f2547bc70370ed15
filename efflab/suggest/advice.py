"""Orders recipes for a baseline by what earlier studies let one expect of them, and says where they let one expect nothing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from efflab.records.kept import keep, recalled
from efflab.records.quality import SHARE, units_in_one
from efflab.records.store import LocalStore
from efflab.suggest.distances import CONTEXT_ASPECTS, LEAST, TrialContext, context_distances, context_of
from efflab.suggest.gaussian_process import NAMES, PRIOR, Belief, Datum, Observations, believe, learn
from efflab.suggest.outcome import COUNTED, Model, Outcome, Ratio, Recipe, Target, points_of
from efflab.suggest.past_studies import FOLDER, Experience

MOST_DATA = 1000  # outcomes behind one answer: of more, those in the contexts most like the one asked for
KNOWN = 0.8  # an expectation whose standard deviation is still this share of what it was before all data has no basis
NEAR_BEST = 0.95  # share of the best gain from which a recipe is as good as the best
DRAWS = 1000  # of all recipes' gains together
CHANCE = 0.02  # share of draws that decides no order; from 0 to 0.1 the trials of leave-one-out hardly move
REACH_90 = 1.645  # standard deviations of a normal distribution


class Expected(NamedTuple):
    """A value with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Suggestion:
    """A recipe with what is expected of it."""

    recipe: Recipe
    gain: Expected  # M, or the speed-up
    points: Expected | None  # by how much the metric gets better, in its unit (points); None without a basis
    within: float | None  # probability that it loses no more points than allowed
    records: int  # of this very recipe, on whatever baseline and place
    baselines: tuple[str, ...]  # which those were
    measured: bool  # on this baseline at this place
    kin: bool = True  # whether a record is of the baseline's kind of network
    unit: str = SHARE  # of the points


@dataclass(frozen=True)
class Advice:
    """Suggestions, the best first; how many recipes have no basis or lose too much; and what is missing, in words."""

    suggestions: tuple[Suggestion, ...]
    no_basis: int
    too_lossy: int
    data: int  # outcomes behind the expectations
    missing: tuple[str, ...]
    unit: str = SHARE  # of losses


def data_of(outcomes: Iterable[Outcome], goal: str) -> list[Datum]:
    """Return the observations of a goal, or of "error"; outcomes of one recipe in one context are averaged over studies."""
    grouped: dict[tuple[TrialContext, Recipe], list[Ratio]] = {}
    for one in outcomes:
        ratio = one.error if goal == "error" else one.gains.get(goal)
        if ratio:
            grouped.setdefault((context_of(one.model, one.place, goal), one.recipe), []).append(ratio)
    return [
        Datum(
            context, recipe,
            sum(one.log for one in ratios) / len(ratios), math.sqrt(sum(one.se**2 for one in ratios) / len(ratios)),
        )
        for (context, recipe), ratios in grouped.items()
    ]  # fmt: skip


def gaps(experience: Experience, model: Model, place: Target, goal: str) -> list[str]:
    """Say what no study has: nothing is expected of a metric, a kind of network or a backend that none has measured."""
    found = []
    told = [one for one in experience.outcomes if goal in one.gains]
    metrics, kinds = {one.model.metric for one in told}, {one.model.kind for one in told}
    backends = {one.place.backend.partition("[")[0] for one in told}
    backend = place.backend.partition("[")[0]
    if not told:
        return [f"no record has the goal {goal}"]
    if model.metric not in metrics:
        found.append(f"no study measures {model.metric}; known: {', '.join(sorted(metrics))}")
    if model.kind not in kinds:
        closest = min(
            (one.model for one in told), key=lambda one: (one.task != model.task, abs(one.error - model.error))
        )
        known = ", ".join(sorted(kinds))
        found.append(f"no study of a {model.kind} has {goal}; known kinds: {known}; nearest in error: {closest.name}")
    if backend not in backends and goal not in COUNTED:
        found.append(f"no study on {backend} has {goal}; known: {', '.join(sorted(backends))}")
    return found


def unmeasured(experience: Experience, place: Target, goal: str) -> list[str]:
    """Say which of a place's settings no record has, though its backend was measured: what is told of them is likeness."""
    places = [one.place for one in experience.outcomes if goal in one.gains]
    name = place.backend.partition("[")[0]
    own = [one for one in places if one.backend.partition("[")[0] == name] or places
    found = []
    labels = list(dict.fromkeys(one.backend for one in own))
    if place.backend not in labels:
        found.append(f"no record on {place.backend} has {goal}; nearest: {', '.join(labels)}")
    batches = sorted({one.batch_size for one in own if one.backend == place.backend or place.backend not in labels})
    if goal not in COUNTED and place.batch_size not in batches:
        less, more = [at for at in batches if at < place.batch_size], [at for at in batches if at > place.batch_size]
        near = " and ".join(str(at) for at in (*less[-1:], *more[:1]))
        found.append(f"no record at batch {place.batch_size} on {name} has {goal}; nearest {near}")
    return found


def kin_of(outcomes: Iterable[Outcome], goal: str, kind: str) -> set[Recipe]:
    """Return the recipes that have a record of a goal on a kind of network."""
    return {one.recipe for one in outcomes if goal in one.gains and one.model.kind == kind}


def believed_of(
    outcomes: Iterable[Outcome], goal: str, asked: TrialContext, recipes: Sequence[Recipe], store: LocalStore | None
) -> tuple[Belief, int]:
    """Return what outcomes let one expect of recipes in a context, and from how many observations."""
    data = nearest_data(data_of(outcomes, goal), asked)
    evidence = Observations(data, asked, recipes)
    return believe(evidence, learnt(evidence, store)), len(data)


def learnt(evidence: Observations, store: LocalStore | None) -> np.ndarray:
    """Return `learn` of the evidence, from the store if it was worked out of the same numbers before."""
    if store is None:
        return learn(evidence)
    measured = [(one.value, one.se) for one in evidence.data]
    digest = hashlib.sha256(repr((NAMES, PRIOR)).encode())
    for part in (measured, *evidence.places(data=True), *evidence.distances):
        digest.update(np.ascontiguousarray(part).tobytes())
    kept = store.root / FOLDER / f"strengths-{digest.hexdigest()}.json"
    strengths = recalled(kept)
    if strengths:
        return np.array(strengths, float)
    found = learn(evidence)
    keep(kept, found.tolist())
    return found


def nearest_data(data: list[Datum], asked: TrialContext) -> list[Datum]:
    """Return all data, or of many those in the contexts most like the one asked for, in their order."""
    if len(data) <= MOST_DATA:
        return data
    contexts = list(dict.fromkeys(one.context for one in data))
    weights = [PRIOR[name] for name in CONTEXT_ASPECTS]
    far = dict(zip(contexts, np.tensordot(weights, context_distances(contexts, [asked]), 1)[0], strict=True))
    nearest = sorted(range(len(data)), key=lambda at: (far[data[at].context], at))[:MOST_DATA]
    return [data[at] for at in sorted(nearest)]


def has_basis(belief: Belief) -> np.ndarray:
    """Return of which recipes the data tell more than was believed before them, shape (recipes,)."""
    sds = np.sqrt(np.clip(np.diag(belief.covariance), 0, None))
    known: np.ndarray = sds < KNOWN * math.sqrt(belief.prior_variance)
    return known


def order(belief: Belief, seed: int = 0) -> list[int]:
    """Return the recipes in the order in which to try them: each next one is most likely good, given that none before it is.

    Good is what comes within 5 % of the best in a draw of all recipes' gains together, so a near copy of a recipe that is
    listed already comes late. Where some recipe listed is good in nearly all draws, the others go by what is expected of them:
    the few draws left are chance, and favour what is least known. Greedy order for the fewest trials: Feige, Lovasz and
    Tetali, "Approximating Min Sum Set Cover" (2004).
    """
    count = len(belief.mean)
    if not count:
        return []
    values, vectors = np.linalg.eigh((belief.covariance + belief.covariance.T) / 2)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    draws = belief.mean + np.random.default_rng(seed).standard_normal((DRAWS, count)) @ root.T
    good = draws >= draws.max(axis=1, keepdims=True) + math.log(NEAR_BEST)
    left, waiting, ordered = np.ones(DRAWS, bool), list(range(count)), list[int]()
    while waiting:
        if left.sum() <= CHANCE * DRAWS:
            left[:] = False
        covers = good[left].sum(axis=0)
        first = max(waiting, key=lambda at: (int(covers[at]), float(belief.mean[at])))
        waiting.remove(first)
        ordered.append(first)
        left &= ~good[:, first]
    return ordered


def advise(
    experience: Experience,
    model: Model,
    place: Target,
    goal: str,
    recipes: Sequence[Recipe],
    most_loss: float | None = None,
    store: LocalStore | None = None,
) -> Advice:
    """Return the recipes in the order in which to try them; `most_loss` in points leaves out those expected to lose more.

    The store, if there is one, keeps what takes longest to work out.
    """
    missing = gaps(experience, model, place, goal)
    if missing or not recipes:
        return Advice((), len(recipes), 0, 0, tuple(missing))
    asked = context_of(model, place, goal)
    gains, count = believed_of(experience.outcomes, goal, asked, recipes, store)
    errors, _ = believed_of(experience.outcomes, "error", context_of(model, place, "error"), recipes, store)
    told, tells_error = has_basis(gains), has_basis(errors)
    seen: dict[Recipe, list[Outcome]] = {}
    for one in experience.outcomes:
        if goal in one.gains:
            seen.setdefault(one.recipe, []).append(one)
    points = [_points(errors, at, model) if tells_error[at] else None for at in range(len(recipes))]
    fine = [at for at in range(len(recipes)) if told[at] and _fits(points[at], most_loss)]
    akin = kin_of(experience.outcomes, goal, model.kind)
    suggestions = []
    for at in (fine[rank] for rank in order(gains.of(fine))):
        behind = seen.get(recipes[at], [])
        suggestions.append(
            Suggestion(
                recipe=recipes[at],
                gain=Expected(*(math.exp(one) for one in _interval(gains, at))),
                points=points[at],
                within=None if most_loss is None else _within(errors, at, model, most_loss),
                records=sum(one.records for one in behind),
                baselines=tuple(dict.fromkeys(one.model.name for one in behind)),
                measured=any(one.model.name == model.name and one.place == place for one in behind),
                kin=recipes[at] in akin,
                unit=model.unit,
            )
        )
    no_basis = int((~told).sum())
    return Advice(tuple(suggestions), no_basis, len(recipes) - no_basis - len(fine), count, (), model.unit)


def _fits(points: Expected | None, most_loss: float | None) -> bool:
    return most_loss is None or (points is not None and points.value >= -most_loss)


def _spread(belief: Belief, at: int) -> float:
    """Return the standard deviation with which a new measurement is expected, not only its truth."""
    return math.sqrt(max(0.0, float(belief.covariance[at, at])) + belief.noise)


def _interval(belief: Belief, at: int) -> tuple[float, float, float]:
    middle, reach = float(belief.mean[at]), REACH_90 * _spread(belief, at)
    return middle, middle - reach, middle + reach


def _points(errors: Belief, at: int, model: Model) -> Expected:
    middle, low, high = _interval(errors, at)
    return Expected(*(points_of(log, model.error, model.unit) for log in (middle, high, low)))


def _within(errors: Belief, at: int, model: Model, most_loss: float) -> float:
    """Return the probability that the loss is at most `most_loss` points, or other units of the metric."""
    limit = math.log1p(most_loss / units_in_one(model.unit) / max(model.error, LEAST))
    return 0.5 * (1 + math.erf((limit - float(errors.mean[at])) / max(1e-9, _spread(errors, at)) / math.sqrt(2)))
