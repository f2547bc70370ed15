"""Expands a recipe into a graph of content-addressed stages: pure data, made before any work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from efflab.cards.baseline import Baseline
from efflab.foundation.errors import RequestError, nearest
from efflab.plan.stage_graph import Stage, StageGraph
from efflab.recipe.backend_choice import BackendChoice
from efflab.recipe.recipe import Recipe
from efflab.recipe.variants import Variant
from efflab.records.record import Role
from efflab.records.variant_name import variant_name

REPEAT = "again"  # suffix of the A/A row
MOST_SESSIONS = 16  # timed in turn: with more of them, each waits longer for its next block, and all hold memory
ANCHORS = ("baseline", "repeat")  # roles of which each group has its own


@dataclass(frozen=True)
class Row:
    """What one record will be made of: a variant on a backend, with the stages that hold its numbers."""

    variant: str
    role: Role
    of: str | None
    parent: str | None
    steps: tuple[tuple[str, dict[str, Any]], ...]
    baseline: str
    family: str | None
    task: str
    seed: int
    backend: str
    device: str
    misfit: str  # why this backend cannot take this variant at all, else ""
    made: tuple[str, ...]  # artefact stages from the baseline on; the last one is the artefact
    quality: str | None
    latency: dict[int, str] = field(default_factory=dict)  # batch size -> group stage; first seed only
    input_dependent: bool = False
    further: int = 0  # number of the group, beyond the first of its place, in which the row is timed once more
    trained_on: str | None = None  # the row of the baseline with this one's training and nothing else


@dataclass(frozen=True)
class Plan:
    """The stages in an order in which they can run, and the rows to be made of their results.

    `left_out` are stages that are not to be run but may be finished: what `--only` passes over.
    """

    recipe: Recipe
    stages: dict[str, Stage]
    rows: tuple[Row, ...]
    left_out: dict[str, Stage] = field(default_factory=dict)

    def owner(self, row: Row) -> Baseline:
        """Return the card of the dense model that a row is or starts from."""
        return next(owner for owner in self.recipe.owners if owner.name == row.baseline)


def make_plan(recipe: Recipe, machine: str, threads: int, only: list[str] | None = None) -> Plan:
    """Plan a recipe for the machine fingerprint `machine`; `only` keeps the named variants and their controls."""
    variants = _chosen(recipe, only)
    planner = _Planner(recipe, threads)
    for baseline in recipe.baselines:
        planner.model_rows(baseline, Variant(baseline.name, None, ()), "baseline", None)
        if recipe.spec.measure.controls:
            again = Variant(f"{baseline.name} ({REPEAT})", baseline.name, ())
            planner.model_rows(baseline, again, "repeat", baseline.name)
        for variant in variants:
            role: Role = "control" if variant.role == "control" else "variant"
            if len(recipe.baselines) > 1:  # one name, one row: the same variant of every member of the family
                name = str(variant_name(variant.name)._replace(baseline=baseline.name))
                parent, control = (
                    one and str(variant_name(one)._replace(baseline=baseline.name))
                    for one in (variant.parent, variant.trained_on)
                )
                variant = replace(variant, name=name, parent=parent, trained_on=control)
            start = recipe.starts[variant.start] if variant.start else baseline
            planner.model_rows(start, variant, role, baseline.name)
    for member in recipe.family:
        if member.name not in {baseline.name for baseline in recipe.baselines}:
            planner.model_rows(member, Variant(member.name, None, ()), "dense", None)
    planner.latency_groups(machine)
    return Plan(recipe, planner.graph.stages, tuple(planner.rows))


def _chosen(recipe: Recipe, only: list[str] | None) -> list[Variant]:
    if not only:
        return list(recipe.variants)
    names = {variant.name for variant in recipe.variants}
    for name in only:
        if name not in names and not any(one.startswith((f"{name}[", f"{name}~")) for one in names):
            raise RequestError(f"unknown variant {name!r} in --only; {nearest(name, names)}")
    chosen = [v for v in recipe.variants if any(v.name == n or v.name.startswith((f"{n}[", f"{n}~")) for n in only)]
    shared = {variant.trained_on for variant in chosen}
    return [v for v in recipe.variants if v in chosen or v.name in shared]


class _Planner:
    """Collects stages and rows; equal stages collapse into one."""

    def __init__(self, recipe: Recipe, threads: int):
        self.recipe, self.threads = recipe, threads
        self.graph = StageGraph(recipe.path, recipe.spec.limits.threads)
        self.rows: list[Row] = []

    def model_rows(self, baseline: Baseline, variant: Variant, role: Role, of: str | None) -> None:
        """Add the stages that make and score a variant for every seed, and its rows on every backend."""
        seen: set[str] = set()
        for seed in self.recipe.spec.measure.seeds:
            made = self.graph.artefacts(baseline, variant, seed)
            if made[-1] in seen:  # nothing random in it: another seed gives the same artefact
                continue
            first = not seen
            seen.add(made[-1])
            for choice in self.recipe.backends:
                self.row(baseline, variant, role, of, seed, choice, made, first)

    def row(
        self,
        baseline: Baseline,
        variant: Variant,
        role: Role,
        of: str | None,
        seed: int,
        choice: BackendChoice,
        made: list[str],
        first: bool,
    ) -> None:
        stages, misfit = self.graph.on_backend(baseline, variant, made, choice)
        quality = None
        if not misfit:
            title = f"{variant.name} on {choice.label} s{seed}"
            quality = self.graph.score("quality", title, baseline, stages[-1], choice)
        self.rows.append(
            Row(
                variant.name,
                role,
                of,
                variant.parent or of,
                tuple((n, t.model_dump()) for n, t in variant.steps),
                baseline.name,
                baseline.card.family,
                next(iter(baseline.card.task)),
                seed,
                choice.label,
                choice.settings.device,
                misfit,
                tuple(stages),
                quality,
                dict.fromkeys(self.recipe.spec.measure.batch_sizes, "") if first and not misfit else {},
                variant.input_dependent or bool(baseline.task.free_axes()),
                trained_on=variant.trained_on,
            )
        )

    def latency_groups(self, machine: str) -> None:
        """Give each (backend, batch, task) one stage that measures all its variants in turn; it belongs to this machine alone."""
        measure, tasks = self.recipe.spec.measure, dict.fromkeys(row.task for row in self.rows)
        for choice, batch, task in product(self.recipe.backends, measure.batch_sizes, tasks):
            group = [
                row for row in self.rows if (row.backend, row.task) == (choice.label, task) and batch in row.latency
            ]
            adapts = any(row.input_dependent for row in group)
            for number, some in enumerate(_shared_out(group)):
                members = {row.variant: row.made[-1] for row in some}
                one = self.graph.time(choice, batch, members, measure, (machine, self.threads), adapts)
                for row in some:
                    if number and row.role in ANCHORS:
                        self.rows.append(replace(row, latency={batch: one}, further=number))
                    else:
                        row.latency[batch] = one


def _shared_out(group: list[Row]) -> list[list[Row]]:
    """Return rows in groups of at most `MOST_SESSIONS`, each with every baseline and its A/A row."""
    if not group:
        return []
    anchors = [row for row in group if row.role in ANCHORS]
    others = [row for row in group if row.role not in ANCHORS]
    room = max(1, MOST_SESSIONS - len(anchors))
    count = max(1, -(-len(others) // room))
    size = -(-len(others) // count)  # of equal size, so that none is left with one
    return [[*anchors, *others[number * size : (number + 1) * size]] for number in range(count)]
