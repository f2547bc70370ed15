"""Where trials are made: their stages are laid and run like those of any recipe, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from efflab.contracts.executor import Executor
from efflab.execution.outcomes import Outcomes
from efflab.execution.scheduler import drive
from efflab.execution.stages.time_in_turn import timed_in_full
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError
from efflab.plan.stage_graph import Stage, StageGraph
from efflab.plan.stage_results import Timed
from efflab.plan.stage_specs import TimeInTurn
from efflab.recipe.measure import Measure
from efflab.recipe.search_goal import LATENCY, WORK
from efflab.recipe.search_section import Search
from efflab.recipe.search_space import recipe_at, spelled
from efflab.recipe.step_order import order_problems
from efflab.recipe.variants import Variant
from efflab.records.cost import CostRecord, less, summed
from efflab.records.store import ALTERED, LocalStore, altered
from efflab.records.trial import Point, State

Charged = dict[str, Mapping[str, float] | None]  # stage -> how much of its cost a trial bears; None: all of it
REFERENCE = "reference_ms"  # among the values of a timed trial: the scale of its latency
LOOK_AFTER = 1.0  # epochs of a training after which it pauses for a look


@dataclass
class Attempt:
    """A point on its way: the stages that make it, and those of its twin without the trainings that move no cost."""

    number: int
    point: Point
    recipe: str
    made: list[str] = field(default_factory=list)  # artefact stages up to what the backend runs
    twin: list[str] = field(default_factory=list)
    score: str = ""  # the stage that scores it on the validation split
    input_dependent: bool = False
    paused: str = ""  # the training that pauses for a look
    pause_at: float = 1.0
    values: dict[str, float] = field(default_factory=dict)
    rung: float | None = None
    quiet: bool | None = None
    state: State | None = None
    why: str = ""

    def end(self, state: State, why: str) -> None:
        """Note how it ended."""
        self.state, self.why = state, why


@dataclass
class TrialMaker:
    """What trials are made with; latencies are those of `where`, this machine and its threads."""

    search: Search
    measure: Measure
    graph: StageGraph
    store: LocalStore
    executor: Executor
    watcher: Watcher
    where: tuple[str, int]
    outcomes: Outcomes = field(default_factory=Outcomes)
    reference_ms: float | None = None  # the baseline's median when it was first timed

    def lay(self, number: int, point: Point) -> Attempt:
        """Return a point's stages; settings that do not go together are a failed attempt."""
        search = self.search
        attempt = Attempt(number, point, spelled(*recipe_at(search.space, point)))
        try:
            baseline, variant = search.variant(point, f"trial {number}")
        except RequestError as error:
            attempt.end("failed", str(error))
            return attempt
        attempt.input_dependent = variant.input_dependent or bool(baseline.task.free_axes())
        made = self.graph.artefacts(baseline, variant, search.spec.seed)
        attempt.made, misfit = self.graph.on_backend(baseline, variant, made, search.backend)
        if misfit:
            attempt.end("failed", misfit)
            return attempt
        title = f"{variant.name} on {search.backend.label}, validation"
        attempt.score = self.graph.score("validation", title, baseline, attempt.made[-1], search.backend)
        twin = untrained(variant)
        if not order_problems([twin], baseline.form, baseline.document):
            made = self.graph.artefacts(baseline, twin, search.spec.seed)
            attempt.twin, _ = self.graph.on_backend(baseline, twin, made, search.backend)
        trainings = [(at, one) for at, (_, one) in enumerate(variant.steps) if one.epochs_of_training() > LOOK_AFTER]
        if trainings:
            at, technique = trainings[-1]
            attempt.paused, attempt.pause_at = attempt.made[at + 1], LOOK_AFTER / technique.epochs_of_training()
        return attempt

    def make(self, stages: Iterable[str], pauses: Mapping[str, float] | None = None) -> None:
        """Run stages that are not finished; a training named in `pauses` stops at that share of its steps."""
        waiting = {}
        for one in stages:
            self.outcomes.paused.pop(one, None)
            if one not in self.outcomes.results and one not in self.outcomes.failures:
                stage, finished = self.graph.stages[one], self.store.finished(one)
                if finished is not None:
                    self.outcomes.take(stage, finished)
                    continue
                if altered(self.store, one):
                    self.watcher.say(f"note: {stage.title}: {ALTERED}")
                if pauses and one in pauses:
                    stage = replace(stage, spec=stage.spec.model_copy(update={"pause_at": pauses[one]}))
                waiting[one] = stage
        if waiting:
            drive(self.executor, waiting, self.store, self.outcomes, self.watcher)

    def note_work(self, attempt: Attempt, stage: str) -> None:
        """Take the ledger of an artefact into an attempt's values."""
        work: Mapping[str, Any] = self.outcomes.made(stage).work
        attempt.values.update({name: float(work[name]) for name in WORK})

    def note_failure(self, attempt: Attempt, stages: Sequence[str]) -> None:
        """End an attempt one of whose stages failed."""
        failed = next((self.outcomes.failures[one] for one in stages if one in self.outcomes.failures), None)
        if failed:
            attempt.end("failed", failed[1])

    def time(self, attempts: Sequence[Attempt]) -> None:
        """Measure attempts in turn with the baseline, nothing else at work.

        The ratio to the baseline counts, times of different minutes would compare the minutes: the value is that ratio
        times the baseline's median when it was first timed.
        """
        from efflab.statistics import time_over_inputs

        spec, search = self.search.spec, self.search
        seed = search.reference.seed_for(spec.seed)
        plain = Variant(search.reference.name, None, ())
        made = self.graph.artefacts(search.reference, plain, seed)
        reference, _ = self.graph.on_backend(search.reference, plain, made, search.backend)
        self.make(reference)
        members = {search.reference.name: reference[-1]}
        members |= {f"trial {attempt.number}": (attempt.twin or attempt.made)[-1] for attempt in attempts}
        adapts = any(attempt.input_dependent for attempt in attempts)
        one = self.graph.time(search.backend, search.batch_size, members, self.measure, self.where, adapts)
        result = self._timed(self.graph.stages[one])
        times = {
            label: time_over_inputs(timing["rounds_ms"], timing.get("inputs", 1))
            for label, timing in result.timings.items()
        }
        base = times.get(search.reference.name)
        for attempt in attempts:
            label = f"trial {attempt.number}"
            if base is None or label not in times:
                lost = self.outcomes.failures.get(one, ("failed", "the baseline could not be timed"))
                attempt.end("failed", result.reasons.get(label, lost)[1])
            else:
                self.reference_ms = self.reference_ms or base
                attempt.values[LATENCY] = times[label] / base * self.reference_ms
                attempt.values[REFERENCE] = self.reference_ms
                attempt.quiet = bool(result.timings[label]["quiet"])

    def _timed(self, group: Stage) -> Timed:
        """Return the times of a group, measured if the store does not hold them."""
        finished, spec = self.store.finished(group.id), group.spec
        self.outcomes.results.pop(group.id, None)
        if finished is not None:
            self.outcomes.take(group, finished)
            if isinstance(spec, TimeInTurn) and timed_in_full(spec, self.outcomes.timed(group.id)):
                return self.outcomes.timed(group.id)
            del self.outcomes.results[group.id]
        drive(self.executor, {group.id: group}, self.store, self.outcomes, self.watcher)
        return self.outcomes.timed(group.id)

    def cost(self, attempt: Attempt, charged: Charged) -> tuple[CostRecord, list[str], dict[str, CostRecord]]:
        """Return what an attempt's stages cost beyond what is `charged` already, those stages, and what paused ones cost.

        What is returned is charged from then on.
        """
        bears: list[CostRecord] = []
        new, parts = [], {}
        for one in dict.fromkeys((*attempt.twin, *attempt.made)):
            look, whole = self.outcomes.paused.get(one), one in self.outcomes.results
            cost = self.outcomes.made(one).cost if whole else look and look["cost"]
            before = charged.get(one, {})
            if not cost or before is None:
                continue
            bears.append(less(cost, before))
            charged[one] = None if whole else dict(cost)  # type: ignore[arg-type]
            if whole:
                new.append(one)
            else:
                parts[one] = cost
        return summed(bears), new, parts


def untrained(variant: Variant) -> Variant:
    """Return a variant without the steps that train and claim to move no cost: the ledger and the clock see no difference."""
    kept = tuple((name, one) for name, one in variant.steps if one.claims or not one.epochs_of_training())
    return replace(variant, name=f"{variant.name} untrained", steps=kept, own=len(kept))
