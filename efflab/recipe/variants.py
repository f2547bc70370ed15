"""Expands a recipe's variants: sweeps multiply, `from` continues, steps are checked for order, controls are added."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Technique
from efflab.contracts.trains import Trains
from efflab.foundation import registry
from efflab.foundation.config import Document, Key, Settings, check, collect
from efflab.foundation.errors import Problem, nearest
from efflab.records.step_settings import side_by_side
from efflab.records.variant_name import VariantName, variant_name

Step = dict[str, dict[str, Any] | None]
MOST_VARIANTS = 10_000  # of a recipe; a study of so many takes weeks
MOST_CHAIN = 100  # variants that continue each other
SWEEP = "sweep stands inside a technique's settings: `prune_channels: {sweep: {ratio: [0.3, 0.5]}}`"


class VariantSpec(Settings):
    """A variant that continues another one, or starts from another card than the recipe's baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)
    misplaced: ClassVar[Mapping[str, str]] = {"sweep": SWEEP}
    parent: Annotated[str | None, Field(alias="from", description="Variant that this one continues.")] = None
    start: Annotated[str | None, Field(description="Card that the variant starts from, in place of the baseline.")] = (
        None
    )
    controls: Annotated[
        bool,
        Field(
            description="Try controls too: the same steps with their choices left to chance, and the baseline with the "
            "same training only."
        ),
    ] = True
    steps: Annotated[list[Step], Field(min_length=1, description="Techniques in their order, each with its settings.")]

    @model_validator(mode="after")
    def _one_start(self) -> VariantSpec:
        if self.parent is not None and self.start is not None:
            raise ValueError(
                "give from (another variant) or start (another card), not both; a variant starts where its parent does"
            )
        return self


def _list_or_mapping(value: Any) -> Any:
    if not isinstance(value, list | dict | VariantSpec):
        example = value if isinstance(value, str) else "prune_channels"
        raise ValueError(f"must be a list of steps; write `[{example}: {{}}]`")
    return value


VariantEntry = Annotated[list[Step] | VariantSpec, BeforeValidator(_list_or_mapping)]


@dataclass(frozen=True)
class Variant:
    """One variant, expanded: all steps from the baseline on, each a technique's name and checked settings."""

    name: str
    parent: str | None
    steps: tuple[tuple[str, Technique], ...]
    role: str = "variant"
    own: int = 0  # how many of the steps are its own, the others being its parent's
    start: str | None = None  # the card that the steps start from, if that is not the recipe's baseline
    controls: bool = True  # whether controls of it are made
    trained_on: str | None = None  # the control that is the baseline with the same training and nothing else

    @property
    def input_dependent(self) -> bool:
        """Whether the work of its model depends on the input."""
        return any(technique.input_dependent() for _, technique in self.steps)

    def form(self, start: Form) -> Form:
        """Return whether the variant is a torch module or an ONNX file."""
        return self.steps[-1][1].gives if self.steps else start


def expand(specs: Mapping[str, list[Step] | VariantSpec], document: Document, problems: list[Problem]) -> list[Variant]:
    """Expand sweeps and `from`, in the order of the file but parents first."""
    done: dict[str, list[tuple[str, Variant]]] = {}  # variant -> its expansions as (suffix, variant)

    def visit(name: str, trail: tuple[str, ...]) -> list[tuple[str, Variant]]:
        if name in done:
            return done[name]
        entry = specs[name]
        key: Key = ("variants", name) if isinstance(entry, list) else ("variants", name, "steps")
        spec = VariantSpec.model_construct(steps=entry) if isinstance(entry, list) else entry
        parent = spec.parent
        if not spec.steps:
            problems.append(Problem(document.where(key), "has no steps; the baseline is measured anyway"))
        parents: list[tuple[str, Variant]] = [("", Variant("", None, (), start=spec.start))]
        if parent is not None:
            where = document.where(("variants", name, "from"))
            if parent in trail or parent == name:
                circle = " -> ".join([*trail[trail.index(parent) if parent in trail else 0 :], name, parent])
                problems.append(Problem(where, f"variants continue each other in a circle: {circle}"))
                parents = []
            elif len(trail) > MOST_CHAIN:
                problems.append(Problem(where, f"variants continue each other more than {MOST_CHAIN} times"))
                parents = []
            elif parent not in specs:
                problems.append(Problem(where, f"unknown variant {parent!r}; {nearest(parent, set(specs) - {name})}"))
                parents = []
            else:
                parents = visit(parent, (*trail, name))
        expanded = []
        own_steps = _steps(spec.steps, key, document, problems)
        count = len(parents) * len(own_steps) + sum(map(len, done.values()))
        if count > MOST_VARIANTS:
            problems.append(_too_many(document.where(key), count))
            own_steps = []
        for (suffix, before), (own_suffix, own) in itertools.product(parents, own_steps):
            both = ",".join(filter(None, [suffix, own_suffix]))
            full = str(VariantName(name, both))
            variant = replace(
                before,
                name=full,
                parent=before.name or None,
                steps=before.steps + own,
                own=len(own),
                controls=spec.controls,
            )
            expanded.append((both, variant))
        done[name] = expanded
        return expanded

    for name in specs:
        visit(name, ())
    return [variant for expansions in done.values() for _, variant in expansions]


def _steps(
    steps: list[Step], key: Key, document: Document, problems: list[Problem]
) -> list[tuple[str, tuple[tuple[str, Technique], ...]]]:
    """Return every combination of the sweeps in a list of steps, with a suffix that tells them apart."""
    choices: list[list[tuple[str, tuple[str, Technique]]]] = []
    for index, step in enumerate(steps):
        place = (*key, index)
        if len(step) != 1:
            what = "a step names exactly one technique, with its settings"
            problems.append(Problem(document.where(place), f"{what}; {SWEEP}" if "sweep" in step else what))
            continue
        ((name, settings),) = step.items()
        schema = collect(problems, document, partial(registry.load, "techniques", name), (*place, name))
        if schema is not None:
            choices.append(_sweep(name, schema, dict(settings or {}), (*place, name), document, problems))
    count = math.prod(map(len, choices))
    if count > MOST_VARIANTS:
        problems.append(_too_many(document.where(key), count))
        return []
    return [
        (",".join(filter(None, (suffix for suffix, _ in combination))), tuple(step for _, step in combination))
        for combination in itertools.product(*choices)
    ]


def _sweep(
    name: str, schema: Any, settings: dict[str, Any], key: Key, document: Document, problems: list[Problem]
) -> list[tuple[str, tuple[str, Technique]]]:
    sweep: dict[str, list[Any]] = {}
    inside, section = {}, schema.short_form
    swept = [((*key, "sweep"), settings.pop("sweep", {}))]
    if isinstance(settings.get(section), dict):  # what is swept in a section is given beside it, which means the same
        inside = settings[section] = dict(settings[section])
        swept.append(((*key, section, "sweep"), inside.pop("sweep", {})))
    for place, values in swept:
        if not isinstance(values, dict) or not all(isinstance(one, list) and one for one in values.values()):
            problems.append(Problem(document.where(place), "must map settings to non-empty lists of values"))
            return []
        twice = [one for one in values if one in settings or one in inside or one in sweep]
        if twice:
            what = f"{twice[0]!r} is also given outside the sweep"
            problems.append(Problem(document.where((*place, twice[0])), what))
            inside.pop(twice[0], None)
        sweep |= values
    count = math.prod(map(len, sweep.values()))
    if count > MOST_VARIANTS:
        problems.append(_too_many(document.where(key), count))
        return []
    expanded = []
    for values in itertools.product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        technique = collect(problems, document, partial(check, schema, document, key, {**settings, **chosen}), key)
        if technique is not None:
            suffix = ",".join(f"{one}={value}" for one, value in side_by_side(chosen).items())
            expanded.append((suffix, (name, technique)))
    return expanded


def _too_many(place: str, count: int) -> Problem:
    told = f"{count:,}" if count < 10**15 else "more than 10^15"
    return Problem(place, f"the sweeps make {told} variants, and {MOST_VARIANTS:,} are the most; sweep fewer values")


def with_controls(variants: list[Variant]) -> list[Variant]:
    """Return the variants, those that train with the name of their control, and then all controls."""
    linked, trained = _trained_on(variants)
    return [*linked, *_random(variants), *trained]


def _trained_on(variants: list[Variant]) -> tuple[list[Variant], list[Variant]]:
    """Return the variants, and the controls of those that train: the card they start from, trained on as they are.

    Variants with the same training share a control. One that does nothing but train on is the control of others itself.
    """
    linked, found = list[Variant](), dict[str, Variant]()
    for variant in variants:
        training = tuple(("finetune", one) for _, step in variant.steps if (one := _as_finetune(step)))
        if not variant.controls or not training:
            linked.append(variant)
            continue
        key = json.dumps([variant.start, [technique.model_dump() for _, technique in training]])
        if key not in found:
            alone = tuple(technique for _, technique in training) == tuple(technique for _, technique in variant.steps)
            name = variant.name if alone else str(variant_name(variant.name)._replace(control="trained-on"))
            found[key] = replace(variant, name=name, parent=None, steps=training, role="control", own=len(training))
        linked.append(replace(variant, trained_on=found[key].name))
    own = {variant.name for variant in variants}
    return linked, [control for control in found.values() if control.name not in own]


def _as_finetune(step: Technique) -> Technique | None:
    """Return plain training of as many epochs, by the same schedule as a step trains, None if it does not."""
    if not isinstance(step, Trains) or not step.epochs_of_training():
        return None
    training = step.training.model_copy(update={"epochs": step.epochs_of_training()})
    plain: Technique = registry.load("techniques", "finetune")(training=training)
    return plain


def _random(variants: list[Variant]) -> list[Variant]:
    """Return, for each variant whose own steps choose something, the same steps with the choice left to chance."""
    found = []
    for variant in (one for one in variants if one.controls):
        head, own = variant.steps[: len(variant.steps) - variant.own], variant.steps[len(variant.steps) - variant.own :]
        swapped = tuple((name, technique.control() or technique) for name, technique in own)
        if swapped != own:
            name = str(variant_name(variant.name)._replace(control="random"))
            found.append(replace(variant, name=name, steps=head + swapped, role="control"))
    return found
