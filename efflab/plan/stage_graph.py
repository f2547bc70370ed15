"""The stages that make and score one model: content-addressed, and equal ones collapse into one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.card_paths import find_card
from efflab.contracts.technique_roles import converter
from efflab.foundation import registry
from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import real
from efflab.foundation.requirements import missing_package
from efflab.foundation.wording import one_line
from efflab.plan.stage_specs import ApplyTechnique, LoadBaseline, Score, StageSpec, TaskRef, TimeInTurn, told
from efflab.profiling.pace import START_SERVER_S, Budget, Pace, batches_for, seconds_of
from efflab.recipe.backend_choice import BackendChoice
from efflab.recipe.measure import Measure
from efflab.recipe.step_order import misfit
from efflab.recipe.variants import Variant

STAGE_VERSION = 3  # raise it when a stage's result means something else


@dataclass(frozen=True)
class Stage:
    """One piece of work. `spec` is plain data that a worker needs; `id` is the digest of all that it depends on."""

    id: str
    title: str
    needs: tuple[str, ...]
    spec: StageSpec
    estimate_s: float

    @property
    def kind(self) -> str:
        """The kind of its spec: baseline, step, quality, validation or latency."""
        return self.spec.kind


def stage_id(kind: str, spec: dict[str, Any], needs: tuple[str, ...]) -> str:
    """Return the content id of a stage: a digest of its kind, what it is told, and the ids of what it needs."""
    content = json.dumps([STAGE_VERSION, kind, spec, needs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def data_digest(baseline: Baseline) -> str:
    """Return the digest of a card's data; raise RequestError, placed in the card, if the task cannot give one."""
    name = next(iter(baseline.card.task))
    try:
        digest = baseline.task.digest()
        why = "" if isinstance(digest, str) and digest else f"its digest() gives {digest!r}, which is no text"
    except (RequestError, MemoryError):
        raise
    except Exception as error:
        why = missing_package(error) or f"its digest() fails: {one_line(error)}"
    if why:
        place = baseline.document.where(("task", name))
        raise RequestError(Problem(place, f"the task {name!r} cannot be used: {why}"))
    return digest


class StageGraph:
    """Collects the stages of models.

    `near` is the recipe's file, beside which cards are looked up; `threads` is how many a stage has that trains or scores.
    """

    def __init__(self, near: Path, threads: int = 1):
        self.near, self.threads = near, threads
        self.stages: dict[str, Stage] = {}
        self.tasks: dict[str, TaskRef] = {}  # by `Baseline.task_key`
        self.cards: dict[str, Baseline] = {}  # of teachers, by name
        self.loads: dict[tuple[Path, int], str] = {}  # card, seed -> the stage that loads it; files are digested once

    def add(self, spec: StageSpec, title: str, needs: tuple[str, ...], estimate_s: float) -> str:
        """Add a stage; what its spec marks as aside, and its title, do not enter its id."""
        one = stage_id(spec.kind, told(spec), needs)
        self.stages.setdefault(one, Stage(one, title, needs, spec, estimate_s))
        return one

    def task_of(self, baseline: Baseline) -> TaskRef:
        """Return a card's task as stages name it, with the digest of its data."""
        key = baseline.task_key()
        if key not in self.tasks:
            (name,), settings, near = baseline.card.task, baseline.task_settings(), baseline.task_folder()
            self.tasks[key] = TaskRef(name=name, settings=settings, digest=data_digest(baseline), near=near)
        return self.tasks[key]

    def load(self, baseline: Baseline, seed: int) -> str:
        """Add the stage that loads a card's model with the weights of `seed`."""
        card = real(baseline.document.path)
        if (card, seed) not in self.loads:
            content, task = baseline.content(seed), self.task_of(baseline)
            spec = LoadBaseline(content=content, seed=seed, form=baseline.form, task=task, card=str(card))
            seconds = 15.0 if baseline.card.hugging_face and baseline.form == "onnx" else 2.0
            self.loads[card, seed] = self.add(spec, f"{baseline.name} s{seed}", (), seconds)
        return self.loads[card, seed]

    def artefacts(self, baseline: Baseline, variant: Variant, seed: int) -> list[str]:
        """Add the stages that make a variant, from the baseline on, and return them in order."""
        weights_seed = baseline.seed_for(seed)
        made = [self.load(baseline, weights_seed)]
        for index, (name, technique) in enumerate(variant.steps):
            training = baseline.card.training
            spec = ApplyTechnique(
                technique=name,
                settings=technique.model_dump(),
                version=technique.version,
                seed=seed if technique.draws() else 0,
                task=self.task_of(baseline),
                threads=self.threads,
                optimizer=training.optimizer if training and technique.epochs_of_training() else "sgd",
                teachers=list(technique.teachers()),
                weights_seed=weights_seed,
            )
            title = f"{variant.name if index + 1 == len(variant.steps) else '...'}: {name} s{spec.seed}"
            estimate = 3.0 + _training_seconds(baseline, technique.epochs_of_training())
            needs = (made[-1], made[0], *map(self.teacher, spec.teachers))
            made.append(self.add(spec, title, needs, estimate))
        return made

    def teacher(self, name: str) -> str:
        """Add the stage that loads another card that a step names, with its first weights."""
        if name not in self.cards:
            self.cards[name] = load_baseline(find_card(name, self.near))
        return self.load(self.cards[name], (self.cards[name].seeds() or [0])[0])

    def export(self, baseline: Baseline, made: list[str], variant: Variant) -> str:
        """Add the export that an ONNX backend needs of a torch variant; an explicit step of the same content is the same stage."""
        name = converter("module", "onnx")
        technique = registry.load("techniques", name)()
        dense = self.stages[made[0]].spec
        spec = ApplyTechnique(
            technique=name,
            settings=technique.model_dump(),
            version=technique.version,
            seed=0,
            task=self.task_of(baseline),
            threads=self.threads,
            weights_seed=dense.weights_seed if isinstance(dense, LoadBaseline) else 0,
        )
        return self.add(spec, f"{variant.name}: {name}", (made[-1], made[0]), 4.0)

    def on_backend(
        self, baseline: Baseline, variant: Variant, made: list[str], choice: BackendChoice
    ) -> tuple[list[str], str]:
        """Return the artefact stages up to what the backend runs, exported if need be, or why it can run none of it."""
        takes = choice.settings.takes
        why = misfit(variant, baseline.form, choice.name, takes)
        if why or takes == variant.form(baseline.form):
            return list(made), why
        return [*made, self.export(baseline, made, variant)], ""

    def score(
        self,
        kind: Literal["quality", "validation"],
        title: str,
        baseline: Baseline,
        artefact: str,
        choice: BackendChoice,
    ) -> str:
        """Add the scoring of an artefact on a backend: `quality` on the test split, `validation` on that one."""
        settings, task = choice.settings.model_dump(), self.task_of(baseline)
        spec = Score(
            kind=kind, backend=choice.name, settings=settings, task=task, threads=self.threads, gpus=_gpus(choice)
        )
        return self.add(spec, title, (artefact,), 3.0)

    def time(
        self,
        choice: BackendChoice,
        batch_size: int,
        members: dict[str, str],
        measure: Measure,
        where: tuple[str, int],
        adapts: bool = False,
    ) -> str:
        """Add the group that measures `members` (label -> artefact) in turn, on the examples of the first one's task.

        where: the machine and the threads. `adapts`: the work of some member depends on the input; then all of them go over
        several inputs, so that times stay paired.
        """
        budget = measure.model_dump(include=set(Pace.model_fields))
        inputs = batches_for(batch_size) if adapts else 1
        first = self.stages[next(iter(members.values()))].spec
        spec = TimeInTurn(
            backend=choice.name,
            settings=choice.settings.model_dump(),
            batch_size=batch_size,
            budget=budget,
            machine=where[0],
            threads=where[1],
            members=members,
            task=first.task,
            inputs=inputs,
            gpus=_gpus(choice),
        )
        title = f"{choice.label} at batch {batch_size}, {len(members)} in turn"
        seconds = START_SERVER_S + len(members) * seconds_of(Budget(**budget), batch_size, inputs)
        return self.add(spec, title, tuple(dict.fromkeys(members.values())), seconds)


def _gpus(choice: BackendChoice) -> int:
    return int(choice.settings.device == "cuda")


def _training_seconds(baseline: Baseline, epochs: float) -> float:
    """Estimate a training's time from the speed at which the baseline itself was trained."""
    card = baseline.card
    measured = [weights.seconds for weights in card.weights if weights.seconds]
    if not epochs or not measured or card.training is None:
        return 60.0 * epochs
    return epochs * min(measured) / card.training.epochs
