"""What a search found: the front of its trials as variants, what the others cost, and a recipe that makes the best again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from efflab.cards.baseline import Baseline
from efflab.cards.card_paths import find_card
from efflab.foundation.errors import RequestError
from efflab.foundation.files import real
from efflab.recipe.found import Found
from efflab.recipe.search_goal import described, front
from efflab.recipe.search_section import Search
from efflab.recipe.search_space import recipe_at
from efflab.recipe.variants import Variant
from efflab.records.cost import CostRecord, summed
from efflab.records.trial import BEST, Trial


def found_by(search: Search, trials: Sequence[Trial]) -> Found:
    """Return recipes of the front: `best`, the smallest in the first metric, then `front-2` and so on, spread over it."""
    variants: list[Variant] = []
    numbers: dict[str, int] = {}
    every = best_trials(search, trials)
    for trial in spread(every, search.spec.keep):
        name = BEST if not numbers else f"front-{len(numbers) + 1}"
        _, variant = search.variant(trial["point"], name)
        numbers[name] = trial["number"]
        if variant.steps:
            variants.append(variant)
    on_front = tuple(trial["number"] for trial in every)
    return Found(tuple(trials), tuple(variants), numbers, on_front, search_cost(search, trials))


def spread(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return up to `most` of a front's trials, both ends among them and the others evenly between."""
    if len(trials) <= most or most == 1:
        return list(trials[:most])
    return [trials[round(place * (len(trials) - 1) / (most - 1))] for place in range(most)]


def best_trials(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """Return the finished trials that keep the bounds and that none beats, the best in the first metric first."""
    done = [trial for trial in trials if trial["state"] == "done"]
    return [done[place] for place in front(search.goal, [trial["values"] for trial in done])]


def nearest_trial(search: Search, trials: Sequence[Trial]) -> Trial | None:
    """Return the finished trial that misses the bounds by least."""
    done = [trial for trial in trials if trial["state"] == "done"]
    return min(done, key=lambda trial: search.goal.excess(trial["values"]), default=None)


def search_cost(search: Search, trials: Sequence[Trial]) -> CostRecord:
    """Return what all trials cost, each stage once, with the trainings of every card that one of them started from."""
    used = {recipe_at(search.space, trial["point"])[0] for trial in trials}
    starts = [search.starts[card] for card in sorted(used)]
    trainings = (start.training_cost(start.seed_for(search.spec.seed)) for start in starts)
    return summed([*(trial["cost"] for trial in trials), *trainings])


def best_recipe(search: Search, found: Found, name: str, data: Mapping[str, Any], command: str) -> str:
    """Return the YAML of a recipe that makes and measures the best variant by itself.

    data: the searching recipe as plain data, whose baseline and measurement it takes over.
    """
    trial = found.trials[found.numbers[BEST]]
    card, steps = recipe_at(search.space, trial["point"])
    where = f" under {', '.join(map(str, search.goal.bounds))}" if search.goal.bounds else ""
    head = [
        f"# The best of {len(found.trials)} trials of `{command}`: {', '.join(search.goal.minimize)} at their least{where}.",
        f"# On the validation split, seed {search.spec.seed}, {search.backend.label}: {described(search.goal, trial['values'])}.",
    ]
    content: dict[str, Any] = {"name": f"{name}-{BEST}", "baseline": _named(search.reference)}
    if steps:
        entry = {"start": _named(search.starts[card]), "steps": [{key: value} for key, value in steps]}
        content["variants"] = {BEST: entry}
    content |= {key: data[key] for key in ("measure", "limits") if key in data}
    return "\n".join(head) + "\n" + yaml.safe_dump(content, sort_keys=False, width=120)


def _named(baseline: Baseline) -> str:
    """Return the card's name where it is found by that, else its path: the recipe may be run from another folder."""
    try:
        known = real(find_card(baseline.name)) == real(baseline.document.path)
    except RequestError:
        known = False
    return baseline.name if known else str(real(baseline.document.path))
