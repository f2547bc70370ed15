"""Which recipes seen anywhere can stand on a baseline, and what a baseline is that no study has measured yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from efflab.artefacts.artefact import Form
from efflab.cards.baseline import load_baseline
from efflab.cards.card_paths import card_files, find_card
from efflab.contracts.technique import Technique
from efflab.foundation import registry
from efflab.foundation.config import Document
from efflab.foundation.errors import RequestError, nearest
from efflab.recipe.recipe import too_fast
from efflab.recipe.step_order import misfit, order_problems
from efflab.recipe.variants import Variant
from efflab.records.kept import keep, recalled
from efflab.records.store import LocalStore
from efflab.suggest.outcome import Model, Recipe, kind_of, settings_of
from efflab.suggest.past_studies import FOLDER, Experience

if TYPE_CHECKING:
    from efflab.cards.baseline import Baseline
    from efflab.contracts.training_section import TrainingSettings

NOWHERE = Document(Path("suggested"), {}, {})


def asked_model(name: str, experience: Experience) -> tuple[Model, Form]:
    """Return a baseline as the records know it, else as its card says, with no MACs and parameters yet; and its form.

    Raises RequestError for a baseline that neither a card nor a record knows, and for a card that tells no quality of a task
    that no record has.
    """
    known = {**card_files(), **experience.models}
    if name not in known and Path(name).suffix not in (".yaml", ".yml"):
        raise RequestError(f"unknown baseline {name!r}; {nearest(name, known)}")
    if name in experience.models:
        return experience.models[name], _form(name, experience)
    baseline = load_baseline(find_card(name))
    return experience.models.get(baseline.name) or _of_card(baseline, experience), baseline.form


def counted(model: Model, name: str, store: LocalStore | None = None) -> tuple[Model, tuple[str, ...]]:
    """Return a model with its MACs and parameters, and a note if they had to be counted.

    To count, the card's model is built and run on an example, which imports torch; the store keeps the count.
    """
    if model.macs:
        return model, ()
    macs, params = _counts(load_baseline(find_card(name)), store)
    note = f"no study holds {model.name}: its MACs are counted, its error is the card's"
    return replace(model, macs=macs, params=params), (note,)


def training_of(name: str) -> TrainingSettings | None:
    """Return how a baseline was trained, as its card says; None where there is no card, or it does not say."""
    named = name in card_files() or Path(name).suffix in (".yaml", ".yml")
    return load_baseline(find_card(name)).card.training if named else None


def _form(name: str, experience: Experience) -> Form:
    """Return the form of a baseline of the records: its card's, and without a card what its recipes begin with."""
    if name in card_files():
        return load_baseline(find_card(name)).form
    first = {one.recipe[0][0] for one in experience.outcomes if one.model.name == name}
    takes = {registry.load("techniques", one).takes for one in first}
    return "onnx" if takes == {"onnx"} else "module"


def _of_card(baseline: Baseline, experience: Experience) -> Model:
    """Return what a card and its model say; without a quality in the card, the error is that of the task's other models."""
    card, task = baseline.card, next(iter(baseline.card.task))
    promised = [card.promise.value] if card.promise else []
    scores = [one.quality for one in card.weights if one.quality is not None] or promised
    others = [one.error for one in experience.models.values() if one.task == task]
    if not scores and not others:
        raise RequestError(f"the card of {baseline.name} tells no quality, and no study holds its task {task}")
    metric = baseline.task.metrics[0]
    error = float(metric.error(sum(scores) / len(scores))) if scores else float(np.median(others))
    kind = kind_of(card.family) or next(iter(card.model or {}), baseline.name)
    return Model(baseline.name, kind, card.family or "", task, metric.name, 0.0, 0.0, error, metric.unit)


def _counts(baseline: Baseline, store: LocalStore | None) -> tuple[float, float]:
    """Return MACs of one example and parameters, from the store if the same model was counted before."""
    content = json.dumps(baseline.content(baseline.seed_for(0)), sort_keys=True)
    kept = store.root / FOLDER / f"counts-{hashlib.sha256(content.encode()).hexdigest()}.json" if store else None
    counts = recalled(kept)
    if counts:
        return float(counts[0]), float(counts[1])
    if baseline.card.hugging_face and baseline.form == "onnx":
        what = "an exported model of Hugging Face is counted where it is run: `efflab run` a recipe with it first"
        raise RequestError(f"no study holds {baseline.name}, and {what}")
    if baseline.form == "onnx":
        from efflab.profiling.work_of_artefact import count_onnx, example_shapes

        work = count_onnx(baseline.onnx_file(), example_shapes(baseline.onnx_file(), baseline.task))
        found = float(work["macs"]), float(work["params"])
    else:
        from efflab.training.cost import macs_per_example

        module = baseline.module(baseline.seed_for(0)) if baseline.encoder else baseline.fresh()
        found = float(macs_per_example(module, baseline.task)), float(sum(one.numel() for one in module.parameters()))
    keep(kept, found)
    return found


def legal(
    recipes: Iterable[Recipe],
    form: Form,
    task: str,
    backend: str,
    experience: Experience,
    training: TrainingSettings | None = None,
) -> tuple[list[Recipe], dict[str, list[Recipe]]]:
    """Return the recipes that can stand on a baseline of this form, task and training and run on a backend.

    And the others, by why they cannot, or should not: a step with a larger learning rate than the baseline had.
    """
    takes: Form = registry.load("backends", backend.partition("[")[0]).takes
    kept, reasons = list[Recipe](), dict[str, list[Recipe]]()
    for recipe in recipes:
        steps = tuple((name, _technique(name, text)) for name, text in recipe)
        variant = Variant("suggested", None, steps, own=len(steps))
        why = ""
        if order_problems([variant], form, NOWHERE):
            why = "its steps cannot stand on this baseline in their order"
        elif misfit(variant, form, backend, takes):
            why = f"it cannot run on {backend}"
        elif not all(_same_task(card, task, experience) for _, one in steps for card in one.teachers()):
            why = "its teacher is of another task"
        elif training and too_fast(steps, training):
            why = f"its learning rate is above the {training.learning_rate:g} of the baseline, and would undo its training"
        (reasons.setdefault(why, []) if why else kept).append(recipe)
    return kept, reasons


def _technique(name: str, text: str) -> Technique:
    made: Technique = registry.load("techniques", name).model_validate(settings_of((name, text)))
    return made


def _same_task(card: str, task: str, experience: Experience) -> bool:
    if card in experience.models:
        return experience.models[card].task == task
    try:
        return next(iter(load_baseline(find_card(card)).card.task)) == task
    except RequestError:
        return False
