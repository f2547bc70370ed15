"""The stages that make and score one model: content-addressed, and equal ones collapse into one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.card_paths import find_card
from efflab.contracts.technique import Technique
from efflab.contracts.technique_roles import converter
from efflab.foundation import registry
from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.requirements import missing_package
from efflab.foundation.wording import one_line
from efflab.profiling.latency import Budget, Pace, batches_for, seconds_of
from efflab.recipe.backend_choice import BackendChoice
from efflab.recipe.measure import Measure
from efflab.recipe.step_order import misfit
from efflab.recipe.variants import Variant

STAGE_VERSION = 1  # raise it when a stage's result means something else


@dataclass(frozen=True)
class Stage:
    """One piece of work. `spec` is plain data that a worker needs; `id` is the digest of all that it depends on."""

    id: str
    kind: str  # baseline, step, quality or latency
    title: str
    needs: tuple[str, ...]
    spec: dict[str, Any]
    estimate_s: float


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


def _places(baseline: Baseline) -> dict[str, Any]:
    """Return where a card lies, and beside what folder its task's files are looked up; they enter no id."""
    card = baseline.document.path.resolve()
    return {"card": str(card), "near": str(card.parent)}


class StageGraph:
    """Collects the stages of models; `near` is the recipe's file, beside which cards are looked up."""

    def __init__(self, near: Path):
        self.near = near
        self.stages: dict[str, Stage] = {}
        self.digests: dict[str, str] = {}  # by what tells tasks apart: their name and all their settings

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
        """Return a card's task as stages name it, with the digest of its data."""
        (name,) = baseline.card.task
        key = f"{name} {baseline.task.model_dump()!r}"
        if key not in self.digests:
            self.digests[key] = data_digest(baseline)
        return {"name": name, "settings": baseline.task_settings(), "digest": self.digests[key]}

    def artefacts(self, baseline: Baseline, variant: Variant, seed: int) -> list[str]:
        """Add the stages that make a variant, from the baseline on, and return them in order."""
        weights_seed = baseline.seed_for(seed)
        task = self.task_of(baseline)
        extra = _places(baseline)
        told = {"content": baseline.content(weights_seed), "seed": weights_seed, "form": baseline.form, "task": task}
        seconds = 15.0 if baseline.card.hugging_face and baseline.form == "onnx" else 2.0
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
            if technique.teachers():
                step["cards"] = self.named_cards(technique)
            title = f"{variant.name if index + 1 == len(variant.steps) else '...'}: {name} s{step['seed']}"
            estimate = 3.0 + _training_seconds(baseline, technique.epochs_of_training())
            made.append(
                self.add("step", title, (made[-1], made[0]), step, extra | {"weights_seed": weights_seed}, estimate)
            )
        return made

    def named_cards(self, technique: Technique) -> dict[str, Any]:
        """Return the content of the other cards that a step names, so that its id depends on them."""
        others = {name: load_baseline(find_card(name, self.near)) for name in technique.teachers()}
        return {name: other.content((other.seeds() or [0])[0]) for name, other in others.items()}

    def export(self, baseline: Baseline, made: list[str], variant: Variant) -> str:
        """Add the export that an ONNX backend needs of a torch variant; an explicit step of the same content is the same stage."""
        name = converter("module", "onnx")
        technique = registry.load("techniques", name)()
        step = {
            "technique": name,
            "settings": technique.model_dump(),
            "version": technique.version,
            "seed": 0,
            "task": self.task_of(baseline),
        }
        extra = _places(baseline) | {"weights_seed": self.stages[made[0]].spec["seed"]}
        return self.add("step", f"{variant.name}: {name}", (made[-1], made[0]), step, extra, 4.0)

    def on_backend(
        self, baseline: Baseline, variant: Variant, made: list[str], choice: BackendChoice
    ) -> tuple[list[str], str]:
        """Return the artefact stages up to what the backend runs, exported if need be, or why it can run none of it."""
        takes = choice.settings.takes
        why = misfit(variant, baseline.form, choice.name, takes)
        if why or takes == variant.form(baseline.form):
            return list(made), why
        return [*made, self.export(baseline, made, variant)], ""

    def score(self, kind: str, title: str, baseline: Baseline, artefact: str, choice: BackendChoice) -> str:
        """Add the scoring of an artefact on a backend: `quality` on the test split, `validation` on that one."""
        told = {"backend": choice.name, "settings": choice.settings.model_dump(), "task": self.task_of(baseline)}
        return self.add(kind, title, (artefact,), told, {"near": _places(baseline)["near"]}, 3.0)

    def time(
        self,
        choice: BackendChoice,
        batch_size: int,
        members: dict[str, str],
        measure: Measure,
        where: tuple[str, int],
        adapts: bool = False,
    ) -> str:
        """Add the group that measures `members` (label -> artefact) in turn.

        where: the machine and the threads. `adapts`: the work of some member depends on the input; then all of them go over
        several inputs, so that times stay paired.
        """
        budget = measure.model_dump(include=set(Pace.model_fields))
        told = {
            "backend": choice.name,
            "settings": choice.settings.model_dump(),
            "batch_size": batch_size,
            "budget": budget,
            "machine": where[0],
            "threads": where[1],
            "members": members,
        }
        inputs = batches_for(batch_size) if adapts else 1
        if inputs > 1:
            told["inputs"] = inputs
        title = f"{choice.label} at batch {batch_size}, {len(members)} in turn"
        seconds = len(members) * seconds_of(Budget(**budget), batch_size, inputs)
        return self.add("latency", title, tuple(dict.fromkeys(members.values())), told, {}, seconds)


def _training_seconds(baseline: Baseline, epochs: float) -> float:
    """Estimate a training's time from the speed at which the baseline itself was trained."""
    card = baseline.card
    measured = [weights.seconds for weights in card.weights if weights.seconds]
    if not epochs or not measured or card.training is None:
        return 60.0 * epochs
    return epochs * min(measured) / card.training.epochs
