"""Checks the plug-ins of a recipe before any work: the packages that they need, and that a task means one thing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from efflab.cards.baseline import Baseline
from efflab.contracts.task import Task
from efflab.contracts.technique import Technique
from efflab.foundation import registry
from efflab.foundation.config import Document, Key
from efflab.foundation.errors import Problem
from efflab.foundation.requirements import lacking, missing_imports
from efflab.recipe.variants import Variant
from efflab.records.variant_name import variant_name

MOST_SETTINGS = 3  # that a sentence names


def task_problems(cards: Sequence[Baseline], document: Document, key: Key) -> list[Problem]:
    """Return what is wrong with the tasks of a recipe's cards; `key` is where the recipe names the cards."""
    return [*_packages(cards), *_meanings(cards, document, key)]


def untrainable(variants: Sequence[Variant], baselines: Sequence[Baseline], document: Document) -> list[Problem]:
    """Return the steps that train where the task has no training split."""
    bare = [one.name for one in baselines if "train" not in one.task.splits()]
    return [
        Problem(
            document.where(("variants", variant_name(variant.name).entry)),
            f"{name} trains, and the task of {bare[0]} has no training split",
        )
        for variant in (variants if bare else ())
        for name, technique in variant.steps
        if technique.epochs_of_training()
    ]


def _packages(cards: Sequence[Baseline]) -> list[Problem]:
    """Return a problem for each task that needs packages which are not installed: a stage would find that out too late."""
    found: list[Problem] = []
    for schema, card in {type(card.task): card for card in reversed(cards)}.items():
        name = next(iter(card.card.task))
        if not isinstance(schema.requires, tuple) or not all(isinstance(one, str) for one in schema.requires):
            what = f"the task {name!r} must give `requires` as a tuple of module names: requires: ClassVar = ('PIL',)"
            found.append(Problem(card.document.where(("task", name)), what))
            continue
        declared, source = lacking(schema.requires), _file(schema)
        if declared:
            found.append(Problem(card.document.where(("task", name)), f"the task {name!r} cannot be used: {declared}"))
        imported = missing_imports(source) if source else []
        found += [
            Problem(f"{source}:{line}", f"the task {name!r} cannot be used: {lacking([package])}")
            for line, package in imported
            if package not in {one.split(".")[0] for one in schema.requires}
        ]
    return found


def package_notes(variants: Iterable[Variant]) -> list[str]:
    """Return a sentence for each package that a technique from outside imports and that is not installed here.

    No error: the technique may look for itself and say that it is unavailable, as efflab's own do.
    """
    steps = {name: type(one) for variant in variants for name, one in variant.steps if _outside(name)}
    return [
        f"technique {name} cannot run here if it needs {package!r}, which {source}:{line} imports: {lacking([package])}"
        for name, schema in steps.items()
        if (source := _file(schema))
        for line, package in missing_imports(source)
    ]


def _outside(technique: str) -> bool:
    return technique in registry.sources("techniques") and registry.origin("techniques", technique) != "efflab"


def _file(schema: type[Task | Technique]) -> Path | None:
    """Return the Python file that defines a plug-in, if there is one."""
    file = getattr(sys.modules.get(schema.__module__), "__file__", None)
    return Path(file) if file and file.endswith(".py") else None


def _meanings(cards: Sequence[Baseline], document: Document, key: Key) -> list[Problem]:
    """Return a problem for each card whose task is that of another one, with other settings: rows are compared by its name."""
    first: dict[str, Baseline] = {}
    found = []
    for card in cards:
        name = next(iter(card.card.task))
        other = first.setdefault(name, card)
        if (type(other.task), other.task.model_dump()) != (type(card.task), card.task.model_dump()):
            what = (
                f"{other.name} and {card.name} are cards of the task {name!r} with different settings "
                f"({_differences(other.task, card.task)}), and scores on different data cannot be compared; "
                f"{_way_out(other, card, document)}"
            )
            found.append(Problem(document.where(key), what))
    return found


def _differences(one: Task, other: Task) -> str:
    ours, theirs = one.model_dump(), other.model_dump()
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    told = [f"{name} {ours.get(name)!r} and {theirs.get(name)!r}" for name in different[:MOST_SETTINGS]]
    return ", ".join([*told, *["and more"] * (len(different) > MOST_SETTINGS)]) or "of another class"


def _way_out(one: Baseline, other: Baseline, document: Document) -> str:
    family, named = other.card.family, document.data.get("baseline", [])
    if family and family == one.card.family and other.name not in ([named] if isinstance(named, str) else named):
        return f"{other.name} is measured too, since both belong to the family {family!r}: give it another `family`"
    return "make a recipe for each"
