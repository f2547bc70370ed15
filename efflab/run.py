"""Runs a plan: models and quality side by side, then latency alone on the quiet machine, then the study."""

from __future__ import annotations

from pathlib import Path

from efflab.contracts.executor import Executor
from efflab.execution.local_executor import LocalExecutor
from efflab.execution.outcomes import Outcomes
from efflab.execution.scheduler import WHOLE_DISK, drive
from efflab.execution.stages.time_in_turn import timed_in_full
from efflab.execution.study_maker import assemble
from efflab.execution.two_places import TwoPlaces
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError, disk_full
from efflab.foundation.machine import fingerprint, machine_id, usable_processors
from efflab.plan.plan import Plan, make_plan
from efflab.plan.selection import narrowed, stages_to_force
from efflab.plan.stage_graph import Stage, data_digest
from efflab.plan.stage_specs import TimeInTurn
from efflab.recipe.recipe import Recipe, load_recipe
from efflab.records.store import ALTERED, LocalStore, Store, altered
from efflab.records.study import Study, save_study


def plan_file(path: Path, only: list[str] | None = None, store: LocalStore | None = None) -> Plan:
    """Load and plan a recipe for this machine; a search that is not finished is a note of the plan."""
    recipe, store = _loaded(path), store or LocalStore.open()
    if recipe.search:
        from efflab.search.run import with_known

        recipe = with_known(recipe, store, _where(recipe), side_by_side(recipe))
    return _planned(recipe, only, store)


def _loaded(path: Path) -> Recipe:
    """Load a recipe; raise RequestError also for data that its search could not name."""
    recipe = load_recipe(path)
    if recipe.search:
        data_digest(recipe.search.reference)
    return recipe


def _planned(recipe: Recipe, only: list[str] | None, store: LocalStore) -> Plan:
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


def side_by_side(recipe: Recipe) -> int:
    """Return how many stages with the threads that a recipe gives each fit beside one another on this machine."""
    return max(1, processors() // recipe.spec.limits.threads)


def run_file(
    path: Path,
    *,
    only: list[str] | None = None,
    force: list[str] | None = None,
    workers: int | None = None,
    store: LocalStore | None = None,
    watcher: Watcher | None = None,
    executor: Executor | None = None,
) -> Study:
    """Run a recipe and return its study; finished stages are taken from the store.

    `executor` runs all that reads no files of the user, and is closed at the end; by default, processes of this machine do.
    `force` does the named variants again (all stages if it is empty). Raises RequestError for a wrong recipe or a full disk.
    """
    store = store or LocalStore.open()
    watcher = watcher or Watcher()
    recipe = _loaded(path)
    count = workers or side_by_side(recipe)
    plan = None if recipe.search else _planned(recipe, only, store)  # what is wrong with it is told before any work
    try:
        store.prepare()
        with store.lock():
            if recipe.search and force == []:
                from efflab.search.run import forget

                forget(recipe, store, _where(recipe))
            if plan is None:
                from efflab.search.run import searched

                found = searched(recipe, store, _where(recipe), count, watcher, executor)
                plan = _planned(found, only, store)
            if force is not None:
                for stage in stages_to_force(plan, force):
                    store.remove(stage)
            outcomes = _cached(plan, store)
            again = {one for one, stage in plan.stages.items() if outcomes.incomplete(stage)}
            watcher.start(plan, (plan.stages.keys() & outcomes.results.keys()) - again)
            for one in plan.stages.values():
                if one.id not in outcomes.results and altered(store, one.id):
                    watcher.say(f"note: {one.title}: {ALTERED}")
            try:
                _run_stages(plan, store, outcomes, watcher, count, executor)
            finally:
                study = assemble(plan, outcomes)
                save_study(study, store.study_file(plan.recipe.spec.name))
    except OSError as error:
        if disk_full(error):
            raise RequestError(WHOLE_DISK) from error
        raise
    return study


def _cached(plan: Plan, store: Store) -> Outcomes:
    outcomes = Outcomes()
    for one, stage in (*plan.stages.items(), *plan.left_out.items()):
        finished = store.finished(one)
        if finished is None:
            continue
        outcomes.take(stage, finished)
        if isinstance(stage.spec, TimeInTurn) and not timed_in_full(stage.spec, outcomes.timed(one)):
            del outcomes.results[one]
    return outcomes


def _run_stages(
    plan: Plan, store: Store, outcomes: Outcomes, watcher: Watcher, workers: int, away: Executor | None
) -> None:
    """Run what is not finished: models and scores side by side, then the times."""
    limits, waiting = plan.recipe.spec.limits, dict[str, Stage]()
    for one, stage in plan.stages.items():
        if one not in outcomes.results or isinstance(stage.spec, TimeInTurn):
            waiting[one] = stage
    executor: Executor = LocalExecutor(store.address, workers, limits.threads, limits.stage_s, limits.memory_gb)
    if away is not None:
        executor = TwoPlaces(executor, away)
    try:
        drive(executor, waiting, store, outcomes, watcher)
    finally:
        executor.close()


def cached_stages(plan: Plan, store: Store) -> set[str]:
    """Return the stages of a plan that the store already holds; a run looks at their files too before it takes them."""
    return {one for one in plan.stages if store.holds(one)}
