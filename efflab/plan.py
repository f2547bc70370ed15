"""Expands a recipe into a graph of content-addressed stages: pure data, made before any work."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from efflab.baseline import Baseline
from efflab.errors import RequestError, nearest
from efflab.profiling.latency import batches_for
from efflab.recipe import BackendChoice, Recipe
from efflab.study import Role
from efflab.technique import Technique
from efflab.variants import Variant

STAGE_VERSION = 1  # raise it when a stage's result means something else
REPEAT = "again"  # suffix of the A/A row


@dataclass(frozen=True)
class Stage:
    """One piece of work. `spec` is plain data that a worker needs; `id` is the digest of all that it depends on."""

    id: str
    kind: str  # baseline, step, quality or latency
    title: str
    needs: tuple[str, ...]
    spec: dict[str, Any]
    estimate_s: float


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
        owners = (*self.recipe.baselines, *self.recipe.family)
        return next(owner for owner in owners if owner.name == row.baseline)


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
                parent = f"{variant.parent}@{baseline.name}" if variant.parent else None
                variant = replace(variant, name=f"{variant.name}@{baseline.name}", parent=parent)
            planner.model_rows(baseline, variant, role, baseline.name)
    for member in recipe.family:
        if member.name not in {baseline.name for baseline in recipe.baselines}:
            planner.model_rows(member, Variant(member.name, None, ()), "dense", None)
    planner.latency_groups(machine)
    return Plan(recipe, planner.stages, tuple(planner.rows))


def _chosen(recipe: Recipe, only: list[str] | None) -> list[Variant]:
    if not only:
        return list(recipe.variants)
    names = {variant.name for variant in recipe.variants}
    for name in only:
        if name not in names and not any(one.startswith((f"{name}[", f"{name}~")) for one in names):
            raise RequestError(f"unknown variant {name!r} in --only; {nearest(name, names)}")
    return [v for v in recipe.variants if any(v.name == n or v.name.startswith((f"{n}[", f"{n}~")) for n in only)]


def stage_id(kind: str, spec: dict[str, Any], needs: tuple[str, ...]) -> str:
    """Return the content id of a stage: a digest of its kind, what it is told, and the ids of what it needs."""
    content = json.dumps([STAGE_VERSION, kind, spec, needs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


class _Planner:
    """Collects stages and rows; equal stages collapse into one."""

    def __init__(self, recipe: Recipe, threads: int):
        self.recipe, self.threads = recipe, threads
        self.stages: dict[str, Stage] = {}
        self.rows: list[Row] = []
        self.digests: dict[str, str] = {}

    def add(
        self,
        kind: str,
        title: str,
        needs: tuple[str, ...],
        told: dict[str, Any],
        extra: dict[str, Any],
        estimate_s: float,
    ) -> str:
        """Add a stage; `told` enters its id, `extra` (paths, titles) does not."""
        one = stage_id(kind, told, needs)
        self.stages.setdefault(one, Stage(one, kind, title, needs, {**told, **extra}, estimate_s))
        return one

    def task_of(self, baseline: Baseline) -> dict[str, Any]:
        ((name, settings),) = baseline.card.task.items()
        if name not in self.digests:
            self.digests[name] = baseline.task.digest()
        return {"name": name, "settings": settings or {}, "digest": self.digests[name]}

    def model_rows(self, baseline: Baseline, variant: Variant, role: Role, of: str | None) -> None:
        """Add the stages that make and score a variant for every seed, and its rows on every backend."""
        seen: set[str] = set()
        for seed in self.recipe.spec.measure.seeds:
            made = self.artefacts(baseline, variant, seed)
            if made[-1] in seen:  # nothing random in it: another seed gives the same artefact
                continue
            first = not seen
            seen.add(made[-1])
            for choice in self.recipe.backends:
                self.row(baseline, variant, role, of, seed, choice, made, first)

    def artefacts(self, baseline: Baseline, variant: Variant, seed: int) -> list[str]:
        weights_seed = baseline.seed_for(seed)
        task = self.task_of(baseline)
        extra = {"card": str(baseline.document.path.resolve())}
        told = {"content": baseline.content(weights_seed), "seed": weights_seed, "form": baseline.form, "task": task}
        seconds = 15.0 if baseline.card.hugging_face else 2.0
        made = [self.add("baseline", f"{baseline.name} s{weights_seed}", (), told, extra, seconds)]
        for index, (name, technique) in enumerate(variant.steps):
            step = {
                "technique": name,
                "settings": technique.model_dump(),
                "version": technique.version,
                "seed": seed if technique.draws() else 0,
                "task": task,
            }
            training = baseline.card.training
            if technique.epochs_of_training() and training and training.optimizer != "sgd":
                step["optimizer"] = training.optimizer
            if technique.cards():
                step["cards"] = self.named_cards(technique)
            title = f"{variant.name if index + 1 == len(variant.steps) else '...'}: {name} s{step['seed']}"
            estimate = 3.0 + _training_seconds(baseline, technique.epochs_of_training())
            made.append(
                self.add("step", title, (made[-1], made[0]), step, extra | {"weights_seed": weights_seed}, estimate)
            )
        return made

    def named_cards(self, technique: Technique) -> dict[str, Any]:
        """Return the content of the other cards that a step names, so that its id depends on them."""
        from efflab.baseline import find_card, load_baseline

        others = {name: load_baseline(find_card(name, self.recipe.path)) for name in technique.cards()}
        return {name: other.content((other.seeds() or [0])[0]) for name, other in others.items()}

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
        form = variant.form(baseline.form)
        misfit, stages, quality = "", list(made), None
        stuck = next(filter(None, (technique.no_onnx() for _, technique in variant.steps)), "")
        if choice.settings.takes == "onnx" and form == "module" and stuck:
            misfit = stuck
        elif choice.settings.takes == "onnx" and form == "module":
            stages.append(self.export(baseline, made, variant))
        elif choice.settings.takes != form:
            misfit = f"{choice.name} runs torch modules; this variant is an ONNX file"
        if not misfit:
            told = {
                "backend": choice.name,
                "settings": choice.settings.model_dump(),
                "task": self.task_of(baseline),
            }
            title = f"{variant.name} on {choice.label} s{seed}"
            quality = self.add("quality", title, (stages[-1],), told, {}, 3.0)
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
                any(technique.input_dependent() for _, technique in variant.steps),
            )
        )

    def export(self, baseline: Baseline, made: list[str], variant: Variant) -> str:
        """Add the export that an ONNX backend needs of a torch variant; an explicit step of the same content is the same stage."""
        from efflab import registry

        technique = registry.load("techniques", "export_onnx")()
        step = {
            "technique": "export_onnx",
            "settings": technique.model_dump(),
            "version": technique.version,
            "seed": 0,
            "task": self.task_of(baseline),
        }
        extra = {"card": str(baseline.document.path.resolve()), "weights_seed": self.stages[made[0]].spec["seed"]}
        return self.add("step", f"{variant.name}: export_onnx", (made[-1], made[0]), step, extra, 4.0)

    def latency_groups(self, machine: str) -> None:
        """Give each (backend, batch) one stage that measures all its variants in turn; it belongs to this machine alone."""
        measure = self.recipe.spec.measure
        budget = measure.model_dump(include={"min_runs", "min_seconds", "max_seconds", "rounds"})
        for choice in self.recipe.backends:
            for batch in measure.batch_sizes:
                members = [row for row in self.rows if row.backend == choice.label and batch in row.latency]
                if not members:
                    continue
                told = {
                    "backend": choice.name,
                    "settings": choice.settings.model_dump(),
                    "batch_size": batch,
                    "budget": budget,
                    "machine": machine,
                    "threads": self.threads,
                    "members": {row.variant: row.made[-1] for row in members},
                }
                if any(row.input_dependent for row in members):  # all of them, so that times stay paired
                    told["inputs"] = batches_for(batch)
                needs = tuple(dict.fromkeys(row.made[-1] for row in members))
                seconds = len(members) * (1.5 + measure.min_seconds * 1.5)
                one = self.add(
                    "latency", f"{choice.label} at batch {batch}, {len(members)} in turn", needs, told, {}, seconds
                )
                for row in members:
                    row.latency[batch] = one


def _training_seconds(baseline: Baseline, epochs: float) -> float:
    """Estimate a training's time from the speed at which the baseline itself was trained."""
    card = baseline.card
    measured = [weights.seconds for weights in card.weights if weights.seconds]
    if not epochs or not measured or card.training is None:
        return 60.0 * epochs
    return epochs * min(measured) / card.training.epochs
