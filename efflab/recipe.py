"""Recipes: a baseline or family, named variants each a list of technique steps, and what to measure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from efflab import registry
from efflab.backend import Backend
from efflab.baseline import Baseline, family_members, find_card, load_baseline, make
from efflab.config import Document, Key, Settings, check, parse_yaml, read_yaml
from efflab.errors import Problem, RequestError, nearest
from efflab.technique import Form, Technique

Step = dict[str, dict[str, Any] | None]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class VariantSpec(Settings):
    """A variant that continues another one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)
    parent: Annotated[str | None, Field(alias="from")] = None
    steps: Annotated[list[Step], Field(min_length=1)]


class Measure(Settings):
    """What is measured, how long, and the non-inferiority margin, fixed before anything is seen."""

    backends: Annotated[list[str | dict[str, dict[str, Any] | None]], Field(min_length=1)] = ["torch"]
    batch_sizes: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=1)] = [1, 64]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.01  # share of the baseline's metric
    threads: Annotated[int, Field(ge=1)] | None = None  # of a latency session; default: all processors
    min_runs: Annotated[int, Field(ge=11)] = 130
    min_seconds: Annotated[float, Field(gt=0)] = 0.5
    max_seconds: Annotated[float, Field(gt=0)] = 5.0
    rounds: Annotated[int, Field(ge=5, le=1000)] = 20
    controls: bool = True

    @field_validator("batch_sizes", "seeds")
    @classmethod
    def _distinct(cls, values: list[int]) -> list[int]:
        if len(set(values)) != len(values):
            raise ValueError("a value is given twice")
        return values


class Limits(Settings):
    """What one stage may use before it is stopped and becomes a failed row."""

    stage_s: Annotated[float, Field(gt=0)] = 7200.0
    memory_gb: Annotated[float, Field(gt=0)] | None = None


class RecipeSpec(Settings):
    """A recipe, as its YAML says."""

    name: Annotated[str, Field(pattern=NAME)]
    description: str = ""
    baseline: str | None = None
    family: str | None = None
    variants: dict[Annotated[str, Field(pattern=NAME)], list[Step] | VariantSpec] = {}
    measure: Measure = Measure()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_source(self) -> RecipeSpec:
        if (self.baseline is None) == (self.family is None):
            raise ValueError("give either baseline (a card) or family (all its members)")
        return self


@dataclass(frozen=True)
class Variant:
    """One variant, expanded: all steps from the baseline on, each a technique's name and checked settings."""

    name: str
    parent: str | None
    steps: tuple[tuple[str, Technique], ...]
    role: str = "variant"
    own: int = 0  # how many of the steps are its own, the others being its parent's

    def form(self, start: Form) -> Form:
        """Return whether the variant is a torch module or an ONNX file."""
        return self.steps[-1][1].gives if self.steps else start


@dataclass(frozen=True)
class BackendChoice:
    """A backend with its settings, and its label in tables."""

    name: str
    settings: Backend

    @property
    def label(self) -> str:
        """The backend's name with the settings that differ from its defaults: `openvino[precision=bf16]`."""
        shown = ",".join(f"{key}={value}" for key, value in self.settings.model_dump(exclude_defaults=True).items())
        return f"{self.name}[{shown}]" if shown else self.name


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: its baselines, its expanded variants (controls included) and its backends."""

    spec: RecipeSpec
    text: str
    path: Path
    baselines: tuple[Baseline, ...]
    family: tuple[Baseline, ...]  # the dense control: every member, those of `baselines` included
    variants: tuple[Variant, ...]
    backends: tuple[BackendChoice, ...]


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; raise RequestError with all its problems at once."""
    return recipe_of(read_yaml(path), path.read_text(encoding="utf-8"))


def parse_recipe(text: str, path: Path = Path("recipe.yaml")) -> Recipe:
    """Check a recipe given as text."""
    return recipe_of(parse_yaml(text, path), text)


def recipe_of(document: Document, text: str) -> Recipe:
    """Check a recipe's document: schema first, then everything that names something else."""
    spec = check(RecipeSpec, document)
    problems: list[Problem] = []
    baselines, family = _collect(problems, document, lambda: _baselines(spec, document)) or ((), ())
    backends = _backends(spec, document, problems)
    variants = _expand(spec, document, problems)
    for baseline in baselines:
        problems += _order_problems(variants, baseline.form, document)
    if not problems and spec.measure.controls:
        variants += _controls(variants)
    if problems:
        raise RequestError(list(dict.fromkeys(problems)))
    return Recipe(spec, text, document.path, tuple(baselines), tuple(family), tuple(variants), tuple(backends))


def _collect(problems: list[Problem], document: Document, make_it: Any, key: Key = ()) -> Any:
    try:
        return make_it()
    except RequestError as error:
        problems += [one if one.where else Problem(document.where(key), one.what) for one in error.problems]
        return None


def _baselines(spec: RecipeSpec, document: Document) -> tuple[list[Baseline], list[Baseline]]:
    key = "family" if spec.family else "baseline"
    try:
        if spec.family:
            members = family_members(spec.family, document.path)
            return members, members
        baseline = load_baseline(find_card(str(spec.baseline), document.path))
        family = family_members(baseline.card.family, baseline.document.path) if baseline.card.family else []
        return [baseline], family if spec.measure.controls else []
    except RequestError as error:
        raise RequestError(
            [p if p.where else Problem(document.where((key,)), p.what) for p in error.problems]
        ) from error


def _backends(spec: RecipeSpec, document: Document, problems: list[Problem]) -> list[BackendChoice]:
    chosen: dict[str, BackendChoice] = {}
    for index, entry in enumerate(spec.measure.backends):
        key: Key = ("measure", "backends", index)
        if isinstance(entry, dict) and len(entry) != 1:
            problems.append(Problem(document.where(key), "name exactly one backend, with its settings"))
            continue
        name = entry if isinstance(entry, str) else next(iter(entry))
        schema = _collect(problems, document, lambda name=name: registry.load("backends", name), key)
        place = key if isinstance(entry, str) else (*key, name)
        known = schema and _collect(
            problems,
            document,
            lambda s=schema, p=place, e=entry: s() if isinstance(e, str) else make(s, document, p),
            key,
        )
        if known:
            choice = BackendChoice(name, known)
            if choice.label in chosen:
                problems.append(Problem(document.where(key), f"{choice.label} is given twice"))
            chosen[choice.label] = choice
    if not chosen and not problems:
        problems.append(Problem(document.where(("measure", "backends")), "no backend is given"))
    return list(chosen.values())


def _expand(spec: RecipeSpec, document: Document, problems: list[Problem]) -> list[Variant]:
    """Expand sweeps and `from`, in the order of the file but parents first."""
    done: dict[str, list[tuple[str, Variant]]] = {}  # variant -> its expansions as (suffix, variant)

    def visit(name: str, trail: tuple[str, ...]) -> list[tuple[str, Variant]]:
        if name in done:
            return done[name]
        entry = spec.variants[name]
        steps = entry if isinstance(entry, list) else entry.steps
        parent = None if isinstance(entry, list) else entry.parent
        key: Key = ("variants", name) if isinstance(entry, list) else ("variants", name, "steps")
        if isinstance(entry, list) and not entry:
            problems.append(Problem(document.where(key), "has no steps; the baseline is measured anyway"))
        parents: list[tuple[str, Variant]] = [("", Variant("", None, ()))]
        if parent is not None:
            where = document.where(("variants", name, "from"))
            if parent in trail or parent == name:
                circle = " -> ".join([*trail[trail.index(parent) if parent in trail else 0 :], name, parent])
                problems.append(Problem(where, f"variants continue each other in a circle: {circle}"))
                parents = []
            elif parent not in spec.variants:
                problems.append(
                    Problem(where, f"unknown variant {parent!r}; {nearest(parent, set(spec.variants) - {name})}")
                )
                parents = []
            else:
                parents = visit(parent, (*trail, name))
        expanded = []
        for (suffix, before), (own_suffix, own) in itertools.product(parents, _steps(steps, key, document, problems)):
            both = ",".join(filter(None, [suffix, own_suffix]))
            full = f"{name}[{both}]" if both else name
            expanded.append((both, Variant(full, before.name or None, before.steps + own, own=len(own))))
        done[name] = expanded
        return expanded

    for name in spec.variants:
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
            problems.append(Problem(document.where(place), "a step names exactly one technique, with its settings"))
            continue
        ((name, settings),) = step.items()
        schema = _collect(problems, document, lambda name=name: registry.load("techniques", name), (*place, name))
        if schema is not None:
            choices.append(_sweep(name, schema, dict(settings or {}), (*place, name), document, problems))
    return [
        (",".join(filter(None, (suffix for suffix, _ in combination))), tuple(step for _, step in combination))
        for combination in itertools.product(*choices)
    ]


def _sweep(
    name: str, schema: Any, settings: dict[str, Any], key: Key, document: Document, problems: list[Problem]
) -> list[tuple[str, tuple[str, Technique]]]:
    sweep = settings.pop("sweep", {})
    if not isinstance(sweep, dict) or not all(isinstance(values, list) and values for values in sweep.values()):
        problems.append(Problem(document.where((*key, "sweep")), "must map settings to non-empty lists of values"))
        return []
    twice = [one for one in sweep if one in settings]
    if twice:
        problems.append(
            Problem(document.where((*key, "sweep", twice[0])), f"{twice[0]!r} is also given outside the sweep")
        )
    expanded = []
    for values in itertools.product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        technique = _collect(problems, document, lambda c=chosen: check(schema, document, key, {**settings, **c}), key)
        if technique is not None:
            suffix = ",".join(f"{one}={value}" for one, value in chosen.items())
            expanded.append((suffix, (name, technique)))
    return expanded


def _order_problems(variants: list[Variant], start: Form, document: Document) -> list[Problem]:
    problems = []
    for variant in variants:
        entry: Key = ("variants", variant.name.split("[")[0])
        form, names = start, list[str]()
        for name, technique in variant.steps:
            what = ""
            early = [one for one in names if one in technique.before]
            if technique.takes != form:
                takes, has = _FORMS[technique.takes], _FORMS[form]
                what = f"{name} takes {takes}, but the model is {has} there; legal order: {_legal(variant)}"
            elif technique.after and not set(technique.after) & {*names} and start == "module":
                what = f"{name} must come after {' or '.join(technique.after)}; legal order: {_legal(variant)}"
            elif early:
                what = f"{name} must come before {', '.join(early)}; legal order: {_legal(variant)}"
            if what:
                problems.append(Problem(document.where(entry), what))
                break
            form = technique.gives
            names.append(name)
    return problems


_FORMS: dict[Form, str] = {"module": "a torch module", "onnx": "an ONNX file"}


def _legal(variant: Variant) -> str:
    """Order the steps as they could stand: modules first, then the export, then what takes ONNX."""

    def rank(technique: Technique) -> int:
        return 0 if technique.gives == "module" else 1 if technique.takes == "module" else 2

    ordered = [name for name, _ in sorted(variant.steps, key=lambda step: rank(step[1]))]
    last = [rank(technique) for _, technique in variant.steps]
    if 2 in last and 1 not in last:
        ordered.insert(last.count(0), "export_onnx")
    return " -> ".join(ordered)


def _controls(variants: list[Variant]) -> list[Variant]:
    """Return, for each variant whose own steps choose something, the same steps with the choice left to chance."""
    controls = []
    for variant in variants:
        head, own = variant.steps[: len(variant.steps) - variant.own], variant.steps[len(variant.steps) - variant.own :]
        swapped = tuple((name, technique.control() or technique) for name, technique in own)
        if swapped != own:
            controls.append(replace(variant, name=f"{variant.name}~random", steps=head + swapped, role="control"))
    return controls
