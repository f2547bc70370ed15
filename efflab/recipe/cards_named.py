"""The cards that a recipe names: baselines, families, starts of variants and teachers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.card_files import start_card
from efflab.cards.card_paths import find_card
from efflab.cards.family import family_members
from efflab.foundation.config import Document, Key, collect
from efflab.foundation.errors import Problem, RequestError
from efflab.recipe.variants import Variant
from efflab.records.variant_name import variant_name

if TYPE_CHECKING:
    from efflab.recipe.recipe import RecipeSpec


def twins(owners: list[Baseline], document: Document) -> list[Problem]:
    """Return the cards of one name from two folders: their rows could not be told apart."""
    first: dict[str, Baseline] = {}
    pairs = [(first.setdefault(owner.name, owner), owner) for owner in owners]
    return [
        Problem(
            document.where(("baseline",)),
            f"two cards are named {one.name!r}: {one.document.path} and {other.document.path}; rename one",
        )
        for one, other in pairs
        if one is not other
    ]


def starts_of(
    variants: list[Variant], baselines: list[Baseline], document: Document, problems: list[Problem]
) -> dict[str, Baseline]:
    """Return the cards that variants name as their start."""
    found = {}
    for variant in variants if baselines else ():
        if variant.start and variant.start not in found:
            key: Key = ("variants", variant_name(variant.name).entry, "start")
            found[variant.start] = collect(
                problems, document, partial(start_card, variant.start, baselines[0], document, key), key
            )
    return {name: baseline for name, baseline in found.items() if baseline is not None}


def teachers_of(
    variants: list[Variant], baselines: list[Baseline], document: Document, problems: list[Problem]
) -> list[Baseline]:
    """Return the cards that steps name as teachers."""
    found: dict[str, Baseline | None] = {}
    for variant in variants:
        for _, technique in variant.steps:
            for name in technique.teachers():
                key: Key = ("variants", variant_name(variant.name).entry)
                if name not in found:
                    found[name] = collect(problems, document, partial(_teacher, name, baselines, document, key), key)
    return [baseline for baseline in found.values() if baseline is not None]


def _teacher(name: str, baselines: list[Baseline], document: Document, key: Key) -> Baseline:
    teacher = _card(name, document.path)
    other = next((one for one in baselines if one.card.task != teacher.card.task), None)
    if other is not None:
        ours, theirs = (next(iter(one.card.task)) for one in (other, teacher))
        what = (
            f"the teacher {name!r} is of another task ({theirs}) than {other.name} ({ours}), or of other settings of it"
        )
        raise RequestError(Problem(document.where(key), what))
    if teacher.form == "onnx":
        what = f"the teacher {name!r} is an ONNX file, but a torch model is wanted; name another card"
        raise RequestError(Problem(document.where(key), what))
    return teacher


def _card(name: str, near: Path) -> Baseline:
    return load_baseline(find_card(name, near))


def baselines_of(
    spec: RecipeSpec, document: Document, problems: list[Problem]
) -> tuple[list[Baseline], list[Baseline]]:
    """Return the baselines and the dense control: all members of their families."""
    if spec.family:
        members = collect(problems, document, partial(family_members, spec.family, document.path), ("family",)) or []
        return members, members
    baselines: list[Baseline] = []
    for index, name in enumerate(spec.cards()):
        key: Key = ("baseline",) if isinstance(spec.baseline, str) else ("baseline", index)
        baselines += filter(None, [collect(problems, document, partial(_card, name, document.path), key)])
    near = {baseline.card.family: baseline.document.path for baseline in baselines if baseline.card.family}
    family: list[Baseline] = []
    for name, path in near.items() if spec.measure.controls else ():
        family += collect(problems, document, partial(family_members, name, path), ("baseline",)) or []
    return baselines, family
