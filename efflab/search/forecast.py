"""What a search will cost, told before it starts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from efflab.cards.baseline import Baseline
from efflab.foundation.errors import Problem, RequestError
from efflab.plan.stage_graph import StageGraph
from efflab.recipe.search_section import Search
from efflab.recipe.search_space import settle, size
from efflab.recipe.variants import Variant

SAMPLE = 32  # points of the space that are looked at
TIMED_S = 4.0  # of a trial's latency, beside the time that the recipe gives it


@dataclass(frozen=True)
class SearchForecast:
    """Seconds of one trial on one worker (mean, and of the shortest), and training MACs of a trial (mean)."""

    seconds: float
    least_s: float
    training_macs: float


def forecast(search: Search, near: Path) -> SearchForecast:
    """Estimate a trial from points drawn by chance, by what the cards say of their own training; nothing is stopped early."""
    generator = random.Random(search.spec.seed)
    seconds, macs = [], []
    for _ in range(min(SAMPLE, int(min(size(search.space), SAMPLE)))):
        point, _, _ = settle(search.space, lambda dimension: dimension.draw(generator))
        try:
            baseline, variant = search.variant(point)
        except RequestError:
            continue
        graph = StageGraph(near)
        made, _ = graph.on_backend(
            baseline, variant, graph.artefacts(baseline, variant, search.spec.seed), search.backend
        )
        graph.score("validation", "", baseline, made[-1], search.backend)
        seconds.append(sum(stage.estimate_s for stage in graph.stages.values()) + (TIMED_S if search.timed else 0.0))
        macs.append(sum(_training_macs(baseline, variant)))
    if not seconds:
        raise RequestError(Problem(search.place, "the settings of no point of the space go together"))
    return SearchForecast(mean(seconds), min(seconds), mean(macs))


def check_budget(search: Search, cost: SearchForecast) -> None:
    """Raise RequestError if the time that a search is given is too short for its shortest trial."""
    budget = search.spec.budget_s
    if budget is not None and budget < cost.least_s:
        what = f"budget_s is {budget:g}, but the shortest trial takes about {cost.least_s:.0f} s; give it that at least"
        raise RequestError(Problem(f"{search.place}.budget_s", what))


def _training_macs(baseline: Baseline, variant: Variant) -> list[float]:
    weights = next((one for one in baseline.card.weights if one.training_macs), None)
    training = baseline.card.training
    if weights is None or training is None:
        return [0.0]
    return [weights.training_macs / training.epochs * one.epochs_of_training() for _, one in variant.steps]
