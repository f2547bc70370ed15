"""Brings a recipe's search to its end, or says how far it is, and adds what it found to the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from efflab.contracts.executor import Executor
from efflab.execution.local_executor import LocalExecutor
from efflab.execution.two_places import TwoPlaces
from efflab.execution.watcher import Watcher
from efflab.foundation.config import read_yaml
from efflab.foundation.files import write_atomically
from efflab.foundation.wording import duration
from efflab.plan.stage_graph import StageGraph
from efflab.recipe.found import Found
from efflab.recipe.recipe import Recipe
from efflab.recipe.search_space import size
from efflab.recipe.variants import with_controls
from efflab.records.store import LocalStore
from efflab.search.forecast import check_budget, forecast
from efflab.search.front import best_recipe, best_trials, found_by
from efflab.search.loop import finished, journal_file, known_trials, nothing_found, run_search
from efflab.search.trial_maker import TrialMaker

Where = tuple[str, int]  # the machine's id, and the threads of a latency session


def with_known(recipe: Recipe, store: LocalStore, where: Where, workers: int) -> Recipe:
    """Return the recipe with what its search found, or with a note on how far that is and what is still to come."""
    if recipe.search is None:
        return recipe
    search = recipe.search
    trials, lost = known_trials(search, journal_file(store, recipe.spec.name, search, where), where)
    recipe = replace(recipe, notes=(*recipe.notes, *([f"search: {lost}"] if lost else [])))
    if finished(search, trials):
        if best_trials(search, trials):
            return with_found(recipe, found_by(search, trials))
        return replace(recipe, notes=(*recipe.notes, f"search: it is at its end; {nothing_found(search, trials)}"))
    cost = forecast(search, recipe.path)
    check_budget(search, cost)
    left = min(search.spec.trials, size(search.space)) - len(trials)
    seconds = left * cost.seconds / min(workers, search.spec.at_once)
    points = size(search.space)
    many = (
        "of a continuous space" if points == float("inf") else f"of a space of {points:,.0f} point{'s'[: points != 1]}"
    )
    done = f", {len(trials)} done" if trials else ""
    ahead = f"about {duration(seconds)} and {left * cost.training_macs:.2g} training MACs ahead of `best`"
    budget = f"; it stops after {duration(search.spec.budget_s)}" if search.spec.budget_s else ""
    notes = [
        f"search: {min(search.spec.trials, points):.0f} trials {many}{done}; {ahead} (estimate, none stopped early){budget}"
    ]
    if points == 1:
        notes.append("search: the space has one point, so there is nothing to choose; it is made and measured")
    return replace(recipe, notes=(*recipe.notes, *notes), search_s=seconds)


def searched(
    recipe: Recipe, store: LocalStore, where: Where, workers: int, watcher: Watcher, away: Executor | None = None
) -> Recipe:
    """Do the trials that are left, and return the recipe with what was found; `best.yaml` is written beside the study.

    `away` runs all that reads no files of the user; by default, processes of this machine do.
    """
    if recipe.search is None:
        return recipe
    search, limits = recipe.search, recipe.spec.limits
    for note in with_known(recipe, store, where, workers).notes:
        watcher.say(f"note: {note}")
    home = LocalExecutor(store.address, workers, limits.threads, limits.stage_s, limits.memory_gb)
    executor = TwoPlaces(home, away) if away is not None else home
    try:
        bench = TrialMaker(
            search, recipe.spec.measure, StageGraph(recipe.path, limits.threads), store, executor, watcher, where
        )
        trials = run_search(bench, journal_file(store, recipe.spec.name, search, where))
    finally:
        home.close()
    found = found_by(search, trials)
    data = read_yaml(recipe.path).data if recipe.path.exists() else {}
    file = best_file(store, recipe.spec.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, best_recipe(search, found, recipe.spec.name, data, f"efflab run {recipe.path}"))
    return with_found(recipe, found)


def with_found(recipe: Recipe, found: Found) -> Recipe:
    """Return the recipe with the variants of a finished search, and their random controls."""
    new = list(found.variants)
    if recipe.spec.measure.controls:
        new = with_controls(new)
    return replace(recipe, variants=(*recipe.variants, *new), found=found)


def best_file(store: LocalStore, name: str) -> Path:
    """Return where the recipe of the best trial is written."""
    return store.study_file(name).with_name("best.yaml")


def forget(recipe: Recipe, store: LocalStore, where: Where) -> None:
    """Forget a recipe's trials and their stages."""
    if recipe.search is not None:
        path = journal_file(store, recipe.spec.name, recipe.search, where)
        trials, _ = known_trials(recipe.search, path, where)
        for stage in {stage for trial in trials for stage in trial["stages"]}:
            store.remove(stage)
        path.unlink(missing_ok=True)
