"""Recipes: a baseline or family, named variants each a list of technique steps, and what to measure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from efflab import registry
from efflab.backend import Backend
from efflab.baseline import Baseline, family_members, find_card, load_baseline, make
from efflab.config import Document, Key, Settings, check, collect, parse_yaml, read_yaml
from efflab.errors import Problem, RequestError
from efflab.variants import NAME, Step, Variant, VariantSpec, controls, expand, order_problems


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
    baselines, family = collect(problems, document, lambda: _baselines(spec, document)) or ((), ())
    backends = _backends(spec, document, problems)
    variants = expand(spec.variants, document, problems)
    for baseline in baselines:
        problems += order_problems(variants, baseline.form, document)
    if not problems and spec.measure.controls:
        variants += controls(variants)
    if problems:
        raise RequestError(list(dict.fromkeys(problems)))
    return Recipe(spec, text, document.path, tuple(baselines), tuple(family), tuple(variants), tuple(backends))


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
        schema = collect(problems, document, partial(registry.load, "backends", name), key)
        place = key if isinstance(entry, str) else (*key, name)
        known = schema and collect(
            problems,
            document,
            schema if isinstance(entry, str) else partial(make, schema, document, place),
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
