"""The search itself: propose a batch, make it, stop what is hopeless, note it, until the trials are spent."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from efflab.execution.stages.score import error_at
from efflab.foundation.errors import Problem, RequestError
from efflab.plan.stage_graph import STAGE_VERSION
from efflab.recipe.search_goal import LATENCY, WORK, Bound, described, spelled_value
from efflab.recipe.search_section import Search
from efflab.recipe.search_space import corners, holds, size
from efflab.records.quality import USUAL, error_of, rule_of
from efflab.records.store import LocalStore
from efflab.records.trial import Trial
from efflab.search import early_stopping
from efflab.search.front import best_trials, nearest_trial
from efflab.search.journal import append, mend, read
from efflab.search.propose import propose
from efflab.search.trial_maker import REFERENCE, Attempt, Charged, TrialMaker

MOST_CORNERS = 16


def search_id(search: Search, where: tuple[str, int]) -> str:
    """Return the content id of a search: its space, goal, seed and models; and the machine, where the clock decides.

    More trials or another budget are the same search, which then goes on.
    """
    spec = search.spec
    content = [
        STAGE_VERSION,
        spec.model_dump(include={"steps", "minimize", "where", "at_once", "seed"}),
        [
            [name, start.content(start.seed_for(spec.seed))] for name, start in search.starts.items()
        ],  # points count them
        search.reference.content(search.reference.seed_for(spec.seed)),
        sorted({(name, technique.version) for name, technique in search.techniques}),
        [search.backend.name, search.backend.settings.model_dump(), search.batch_size],
        search.reference.task.digest(),
        where if search.timed else None,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def journal_file(store: LocalStore, name: str, search: Search, where: tuple[str, int]) -> Path:
    """Return where the trials of a recipe's search are kept."""
    return store.root / "searches" / f"{name}-{search_id(search, where)}.jsonl"


def known_trials(search: Search, path: Path, where: tuple[str, int]) -> tuple[list[Trial], str]:
    """Return the trials of a journal, and a note on what was lost of it."""

    def fits(trial: Trial) -> bool:
        told = trial["state"] != "done" or all(name in trial["values"] for name in search.goal.metrics)
        return told and holds(search.space, trial["point"])

    return read(path, search_id(search, where), fits)


def finished(search: Search, trials: Sequence[Trial]) -> bool:
    """Say whether a search has spent its trials or its time, or has tried all there is."""
    spent = search.spec.budget_s is not None and sum(trial["took_s"] for trial in trials) >= search.spec.budget_s
    return spent or len(trials) >= min(search.spec.trials, size(search.space))


def run_search(bench: TrialMaker, path: Path) -> list[Trial]:
    """Do the trials that the journal at `path` does not hold yet, and return all.

    Raises RequestError where no corner of the space keeps a bound on work or time, or no trial keeps all bounds; both
    name the nearest point.
    """
    search, say = bench.search, bench.watcher.say
    identity = search_id(search, bench.where)
    trials, _ = known_trials(search, path, bench.where)
    if path.exists():
        mend(path, identity, trials)  # what an interruption cut off must not stand before what comes now
    charged = _charged(trials)
    bench.reference_ms = next((trial["values"][REFERENCE] for trial in trials if REFERENCE in trial["values"]), None)
    if not trials:
        _probe(bench)
    while not finished(search, trials):
        count = min(search.spec.at_once, search.spec.trials - len(trials))
        points = propose(search.space, search.goal, trials, count, search.spec.seed)
        if not points:
            say(f"the space has no more points: {len(trials)} trials are all")
            break
        begun = time.perf_counter()
        attempts = [bench.lay(len(trials) + at, point) for at, point in enumerate(points)]
        _make(bench, attempts, trials)
        took = (time.perf_counter() - begun) / len(attempts)
        batch = [_trial(bench, attempt, charged, took) for attempt in attempts]
        append(path, identity, batch)
        trials += batch
        for trial in batch:
            say(_told(search, trial))
        say(_so_far(search, trials))
    if not best_trials(search, trials):
        raise RequestError(Problem(search.place, nothing_found(search, trials)))
    return trials


def _make(bench: TrialMaker, attempts: list[Attempt], trials: Sequence[Trial]) -> None:
    """Bring a batch of attempts to their ends: untrained twins first, which tell all costs, then training with one look."""
    search = bench.search
    metric, task = search.reference.task.metrics[0], next(iter(search.reference.card.task))
    share = rule_of(metric.error) == USUAL

    def live() -> list[Attempt]:
        return [attempt for attempt in attempts if not attempt.state]

    twins = [attempt for attempt in live() if attempt.twin]
    bench.make(stage for attempt in twins for stage in attempt.twin)
    for attempt in twins:
        bench.note_failure(attempt, attempt.twin)
        if not attempt.state:
            bench.note_work(attempt, attempt.twin[-1])
    if search.timed and any(not attempt.state for attempt in twins):
        bench.time([attempt for attempt in twins if not attempt.state])
    for attempt in live():
        _stop(attempt, early_stopping.by_cost(search.goal, attempt.values, trials))
    pauses = {attempt.paused: attempt.pause_at for attempt in live() if attempt.paused}
    bench.make((stage for attempt in live() for stage in (*attempt.made, attempt.score)), pauses)
    for attempt in live():
        whole = attempt.paused in bench.outcomes.results
        look = bench.outcomes.made(attempt.paused).rung if whole else bench.outcomes.paused.get(attempt.paused)
        if look:
            attempt.rung = error_at(metric, look["quality"], task)
            _stop(attempt, early_stopping.by_rung(search.goal, attempt.values, attempt.rung, trials, share))
    bench.make(stage for attempt in live() for stage in (*attempt.made, attempt.score))
    for attempt in live():
        bench.note_failure(attempt, (*attempt.made, attempt.score))
    for attempt in live():
        bench.note_work(attempt, attempt.made[-1])
        scored = bench.outcomes.scored(attempt.score).quality
        attempt.values |= {"quality": scored["value"], "error": error_of(scored)}
    late = [attempt for attempt in live() if search.timed and LATENCY not in attempt.values]
    if late:
        bench.time(late)
    for attempt in live():
        attempt.end("done", "")


def _stop(attempt: Attempt, why: str) -> None:
    if why:
        attempt.end("stopped", why)


def _trial(bench: TrialMaker, attempt: Attempt, charged: Charged, took: float) -> Trial:
    cost, stages, paused = bench.cost(attempt, charged)
    assert attempt.state is not None
    trial = Trial(
        number=attempt.number, point=attempt.point, recipe=attempt.recipe, state=attempt.state, why=attempt.why,
        values=attempt.values, cost=cost, stages=stages, took_s=took,
    )  # fmt: skip
    if attempt.rung is not None:
        trial["rung"] = attempt.rung
    if paused:
        trial["paused"] = paused
    if attempt.quiet is not None:
        trial["quiet"] = attempt.quiet
    return trial


def _charged(trials: Sequence[Trial]) -> Charged:
    charged: Charged = {}
    for trial in trials:
        for stage, cost in trial.get("paused", {}).items():
            charged[stage] = dict(cost)  # type: ignore[arg-type]
        charged.update(dict.fromkeys(trial["stages"]))
    return charged


def _probe(bench: TrialMaker) -> None:
    """Raise RequestError where every corner of the space breaks the same bound on work or time, untrained."""
    search = bench.search
    bounds = [bound for bound in search.goal.bounds if bound.metric in (*WORK, LATENCY)]
    if not bounds:
        return
    attempts = [bench.lay(at, point) for at, point in enumerate(corners(search.space, MOST_CORNERS, search.spec.seed))]
    attempts = [attempt for attempt in attempts if attempt.twin]
    bench.make(stage for attempt in attempts for stage in attempt.twin)
    attempts = [attempt for attempt in attempts if attempt.twin[-1] in bench.outcomes.results]
    for attempt in attempts:
        bench.note_work(attempt, attempt.twin[-1])
    if any(bound.metric == LATENCY for bound in bounds) and attempts:
        bench.time(attempts)
        attempts = [attempt for attempt in attempts if not attempt.state]
    for bound in bounds if attempts else ():
        _reachable(bound, attempts, search)


def _reachable(bound: Bound, attempts: Sequence[Attempt], search: Search) -> None:
    nearest = min(attempts, key=lambda attempt: bound.excess(attempt.values))
    if bound.excess(nearest.values) > 0:
        what = f"no corner of the space reaches {bound}: the nearest of {len(attempts)} that were tried has"
        value = spelled_value(bound.metric, nearest.values[bound.metric])
        raise RequestError(Problem(search.place, f"{what} {value} ({nearest.recipe}); widen the space, or the bound"))


def _told(search: Search, trial: Trial) -> str:
    what = trial["why"] or described(search.goal, trial["values"])
    return f"trial {trial['number']} ({trial['recipe']}): {trial['state']}; {what}"


def _so_far(search: Search, trials: Sequence[Trial]) -> str:
    best = best_trials(search, trials)
    if best:
        others = f", and {len(best) - 1} more on the front" if len(best) > 1 else ""
        head = f"best so far: trial {best[0]['number']}, {described(search.goal, best[0]['values'])}{others}"
    else:
        near = nearest_trial(search, trials)
        head = "no trial keeps the bounds yet"
        head += f"; the nearest is trial {near['number']}, {described(search.goal, near['values'])}" if near else ""
    return f"{len(trials)} of {min(search.spec.trials, size(search.space)):.0f} trials; {head}"


def nothing_found(search: Search, trials: Sequence[Trial]) -> str:
    """Say that no trial keeps the bounds, and which one misses them by least."""
    bounds = " and ".join(map(str, search.goal.bounds))
    near = nearest_trial(search, trials)
    if near is None:
        why = trials[-1]["why"] if trials else "there was no time for one"
        return f"none of {len(trials)} trials came to its end ({why})"
    values = described(search.goal, near["values"])
    return f"none of {len(trials)} trials keeps {bounds}; the nearest is trial {near['number']} ({near['recipe']}): {values}"
