"""Runs a plan: models and quality in parallel workers, then latency alone on the quiet machine, then the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efflab.execution.local_executor import LocalExecutor
from efflab.execution.outcomes import Outcomes
from efflab.execution.scheduler import WHOLE_DISK, drive
from efflab.execution.stages.time_in_turn import time_in_turn, timed_in_full
from efflab.execution.study_maker import assemble
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError
from efflab.foundation.machine import fingerprint, machine_id, usable_processors
from efflab.plan.plan import Plan, make_plan
from efflab.plan.selection import narrowed, stages_to_force
from efflab.plan.stage_graph import Stage, data_digest
from efflab.recipe.recipe import Recipe, load_recipe
from efflab.records.store import Store
from efflab.records.study import Study, save_study


def plan_file(path: Path, only: list[str] | None = None, store: Store | None = None) -> Plan:
    """Load and plan a recipe for this machine; a search that is not finished is a note of the plan."""
    recipe, store = _loaded(path), store or Store.open()
    if recipe.search:
        from efflab.search.run import with_known

        recipe = with_known(recipe, store, _where(recipe), processors())
    return _planned(recipe, only, store)


def _loaded(path: Path) -> Recipe:
    """Load a recipe; raise RequestError also for data that its search could not name."""
    recipe = load_recipe(path)
    if recipe.search:
        data_digest(recipe.search.reference)
    return recipe


def _planned(recipe: Recipe, only: list[str] | None, store: Store) -> Plan:
    plan = make_plan(recipe, *_where(recipe))
    if not only:
        return plan
    return narrowed(plan, make_plan(recipe, *_where(recipe), only), set(_cached(plan, store).results))


def _where(recipe: Recipe) -> tuple[str, int]:
    """Return this machine's id and the threads of a latency session: times are compared within these."""
    return machine_id(fingerprint()), recipe.spec.measure.threads or processors()


def processors() -> int:
    """Return how many processors this process may use, within the limits of its container."""
    return usable_processors()


def run_file(
    path: Path,
    *,
    only: list[str] | None = None,
    force: list[str] | None = None,
    workers: int | None = None,
    store: Store | None = None,
    watcher: Watcher | None = None,
) -> Study:
    """Run a recipe and return its study; finished stages are taken from the store.

    `force` does the named variants again (all stages if it is empty). Raises RequestError for a wrong recipe or a full disk.
    """
    store = store or Store.open()
    watcher = watcher or Watcher()
    recipe = _loaded(path)
    plan = None if recipe.search else _planned(recipe, only, store)  # what is wrong with it is told before any work
    try:
        store.prepare()
        with store.lock():
            if recipe.search and force == []:
                from efflab.search.run import forget

                forget(recipe, store, _where(recipe))
            if plan is None:
                from efflab.search.run import searched

                found = searched(recipe, store, _where(recipe), workers or processors(), watcher)
                plan = _planned(found, only, store)
            if force is not None:
                for stage in stages_to_force(plan, force):
                    store.remove(stage)
            outcomes = _cached(plan, store)
            watcher.start(plan, plan.stages.keys() & outcomes.results.keys())
            try:
                _run_models(plan, store, outcomes, watcher, workers or processors())
                _run_latency(plan, store, outcomes, watcher)
            finally:
                study = assemble(plan, outcomes)
                save_study(study, store.study_file(plan.recipe.spec.name))
    except OSError as error:
        if error.errno == 28:
            raise RequestError(WHOLE_DISK) from error
        raise
    return study


def _cached(plan: Plan, store: Store) -> Outcomes:
    outcomes = Outcomes()
    for one in (*plan.stages, *plan.left_out):
        result = store.result(one)
        if result is not None and _usable(plan, one, result):
            outcomes.results[one] = result
    return outcomes


def _usable(plan: Plan, one: str, result: dict[str, Any]) -> bool:
    """Say whether a kept result means what its stage says today."""
    stage = plan.stages.get(one) or plan.left_out[one]
    rows = (row for row in plan.rows if one in row.latency.values())
    row = next(rows, None) if stage.kind == "latency" else None
    return row is None or timed_in_full(stage, result, plan.owner(row).task)


def _run_models(plan: Plan, store: Store, outcomes: Outcomes, watcher: Watcher, workers: int) -> None:
    limits = plan.recipe.spec.limits
    waiting = {
        one: stage for one, stage in plan.stages.items() if stage.kind != "latency" and one not in outcomes.results
    }
    if not waiting:
        return
    count = max(1, min(workers, len(waiting)))
    executor = LocalExecutor(count, max(1, processors() // count), limits.stage_s, limits.memory_gb)
    try:
        drive(executor, waiting, store, outcomes, watcher)
    finally:
        executor.close()


def _run_latency(plan: Plan, store: Store, outcomes: Outcomes, watcher: Watcher) -> None:
    for stage in [stage for stage in plan.stages.values() if stage.kind == "latency" and _lacking(stage, outcomes)]:
        watcher.begin(stage)
        label = next(label for label, made in stage.spec["members"].items() if made in outcomes.results)
        task = plan.owner(next(row for row in plan.rows if row.variant == label)).task
        result, seconds = time_in_turn(stage, task, store, outcomes, watcher)
        outcomes.results[stage.id] = result
        labels: dict[str, list[str]] = {}
        for label, (_, reason) in result["reasons"].items():
            labels.setdefault(reason, []).append(label)
        why = "; ".join(f"{', '.join(some)}: {reason}" for reason, some in labels.items())
        watcher.end(stage, "failed" if labels else "ok", why, seconds)


def _lacking(stage: Stage, outcomes: Outcomes) -> set[str]:
    """Return the members of a latency group that have a model but no times; for one of them the whole group is measured."""
    result = outcomes.results.get(stage.id, {"timings": {}, "reasons": {}})
    absent = (label for label, (status, _) in result["reasons"].items() if status == "unavailable")
    with_model = {label for label, made in stage.spec["members"].items() if made in outcomes.results}
    return with_model - {*result["timings"], *absent}


def cached_stages(plan: Plan, store: Store) -> set[str]:
    """Return the stages of a plan that the store already holds; a run looks at their files too before it takes them."""
    return {one for one in plan.stages if store.holds(one)}
