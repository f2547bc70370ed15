"""Recipes: a baseline or family, named variants each a list of technique steps, and what to measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from efflab.cards.baseline import Baseline
from efflab.cards.card_files import checkpoint_notes, data_notes, file_problems, seed_notes
from efflab.contracts.technique import Technique
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.config import Document, Name, Settings, check, collect, parse_yaml, read_yaml
from efflab.foundation.errors import Problem, RequestError, nearest
from efflab.foundation.files import real
from efflab.recipe.backend_choice import BackendChoice, choose_backends
from efflab.recipe.cards_named import baselines_of, starts_of, teachers_of, twins
from efflab.recipe.found import Found
from efflab.recipe.measure import Measure
from efflab.recipe.plugin_check import package_notes, task_problems, untrainable
from efflab.recipe.search_section import Search, SearchSpec, checked_search
from efflab.recipe.step_order import order_notes, order_problems
from efflab.recipe.variants import Variant, VariantEntry, VariantSpec, expand, with_controls
from efflab.records.trial import BEST
from efflab.records.variant_name import variant_name


class Limits(Settings):
    """What one stage may use."""

    stage_s: Annotated[float, Field(gt=0, le=1e7, description="Seconds after which a stage is stopped.")] = 7200.0
    memory_gb: Annotated[
        Annotated[float, Field(gt=0, le=1e6)] | None, Field(description="Memory in GB above which a stage is stopped.")
    ] = None
    threads: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="Processor threads of each stage that trains or scores; another number may round otherwise.",
        ),
    ] = 1


class RecipeSpec(Settings):
    """A recipe, as its YAML says."""

    name: Annotated[Name, Field(description="Name of the study.")]
    description: Annotated[str, Field(description="What the recipe is for.")] = ""
    baseline: Annotated[
        str | Annotated[list[str], Field(min_length=1)] | None,
        Field(description="Card that every variant starts from, or a list of cards; give this or `family`."),
    ] = None
    family: Annotated[
        str | None, Field(description="Family whose members are all baselines; give this or `baseline`.")
    ] = None
    variants: Annotated[dict[Name, VariantEntry], Field(description="Variants by name: the steps that make each.")] = {}
    search: Annotated[SearchSpec | None, Field(description="What efflab searches for by itself.")] = None
    measure: Annotated[Measure, Field(description="On what, how long, and with which seeds models are measured.")] = (
        Measure()
    )
    limits: Annotated[Limits, Field(description="What one stage may use before it is stopped.")] = Limits()

    @model_validator(mode="after")
    def _one_source(self) -> RecipeSpec:
        if (self.baseline is None) == (self.family is None):
            raise ValueError("give either baseline (a card, or a list of cards) or family (all its members)")
        return self

    @model_validator(mode="after")
    def _one_reference(self) -> RecipeSpec:
        several = self.family is not None or len(self.cards()) > 1
        if several and self.search is not None:
            raise ValueError("a search is judged against one baseline; name one, and the others under search.start")
        started = [name for name, entry in self.variants.items() if isinstance(entry, VariantSpec) and entry.start]
        if several and started:
            raise ValueError(f"{started[0]} has a start of its own, which takes a recipe with one baseline")
        return self

    @field_validator("baseline")
    @classmethod
    def _named_once(cls, given: str | list[str] | None) -> str | list[str] | None:
        if isinstance(given, list) and len(set(given)) != len(given):
            raise ValueError(f"names {next(name for name in given if given.count(name) > 1)!r} twice")
        return given

    def cards(self) -> list[str]:
        """Return the names of the baselines' cards, where they are named one by one."""
        return [self.baseline] if isinstance(self.baseline, str) else self.baseline or []


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
    starts: Mapping[
        str, Baseline
    ]  # cards from which variants start in place of the baseline, by the name they are given
    search: Search | None = None
    notes: tuple[str, ...] = ()  # what the user should know before it is run
    found: Found | None = None  # what its search found, once that is finished
    search_s: float = 0.0  # estimated time of the search that is still ahead

    @property
    def owners(self) -> tuple[Baseline, ...]:
        """Every card that a row can be or start from."""
        return (*self.baselines, *self.family, *self.starts.values())


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; raise RequestError with all its problems at once."""
    if path == Path():
        raise RequestError("a recipe is named by its YAML file, not by an empty name or the working directory")
    if not path.suffix and not path.exists():
        named = {one.stem: str(one) for one in (*Path("recipes").glob("*.yaml"), *Path().glob("*.yaml"))}
        hint = f"did you mean {named[str(path)]}?" if str(path) in named else nearest(str(path), named.values())
        raise RequestError(f"there is no file {path}; a recipe is named by its YAML file; {hint}")
    return recipe_of(read_yaml(path))


def parse_recipe(text: str, path: Path = Path("recipe.yaml")) -> Recipe:
    """Check a recipe given as text."""
    return recipe_of(parse_yaml(text, path))


def recipe_of(document: Document) -> Recipe:
    """Check a recipe's document: its schema, and everything in it that names something else."""
    problems: list[Problem] = []
    spec = collect(problems, document, lambda: check(RecipeSpec, document))
    if spec is None:  # what is right of it is checked further, so that all problems are reported at once
        spec = _what_is_right(document)
        choose_backends(spec.measure.backends, document, ("measure", "backends"), problems)
        expand(spec.variants, document, problems)
        raise RequestError(list(dict.fromkeys(problems)))
    baselines, family = baselines_of(spec, document, problems)
    backends = choose_backends(spec.measure.backends, document, ("measure", "backends"), problems)
    variants = expand(spec.variants, document, problems)
    for baseline in baselines:
        problems += order_problems(variants, baseline.form, document)
    owners = list({real(one.document.path): one for one in (*baselines, *family)}.values())
    problems += _name_clashes(spec, owners, document)
    if spec.search:
        problems += [
            Problem(
                document.where(("variants", name)), f"{name!r} is what the search calls its own; rename the variant"
            )
            for name in spec.variants
            if name == BEST or name.startswith("front-")
        ]
    problems += untrainable(variants, baselines, document)
    starts = starts_of(variants, baselines, document, problems)
    search = None
    if spec.search and baselines:
        search = checked_search(spec.search, baselines[0], backends, spec.measure.batch_sizes, document, problems)
        starts |= search.starts if search else {}
    owners = list({real(one.document.path): one for one in (*owners, *starts.values())}.values())
    problems += twins(owners, document)
    searched = [Variant("search", None, search.techniques)] if search else []
    owners += teachers_of([*variants, *searched], baselines, document, problems)
    problems += task_problems(owners, document, ("family",) if spec.family else ("baseline",))
    problems += file_problems(owners, spec.measure.seeds)
    if not problems and spec.measure.controls:
        variants = with_controls(variants)
    if problems:
        raise RequestError(list(dict.fromkeys(problems)))
    notes = [
        *seed_notes(owners, spec.measure.seeds),
        *order_notes(variants),
        *_rate_notes(variants, baselines),
        *checkpoint_notes(owners),
        *data_notes(owners),
        *package_notes([*variants, *searched]),
    ]
    cards = tuple(baselines), tuple(family)
    return Recipe(
        spec, document.text, document.path, *cards, tuple(variants), tuple(backends), starts, search, tuple(notes)
    )


def _what_is_right(document: Document) -> RecipeSpec:
    """Return the recipe without its variants and sections that break the schema."""
    kept: dict[str, Any] = {"name": "kept", "baseline": "kept"}
    known = RecipeSpec.model_fields.keys() - {"name", "baseline", "family"}
    entries = {key: value for key, value in document.data.items() if key in known}
    variants = entries.pop("variants", {})
    for key, value in entries.items():
        if _fits({**kept, key: value}):
            kept[key] = value
    if isinstance(variants, dict):
        right = {name: entry for name, entry in variants.items() if _fits({**kept, "variants": {name: entry}})}
        for name, entry in right.items():
            parent = entry.get("from") if isinstance(entry, dict) else None
            # a variant that continues a broken one stands alone here, else it would be blamed for the other's fault
            right[name] = entry["steps"] if parent in variants.keys() - right.keys() else entry
        kept["variants"] = right
    return RecipeSpec.model_validate(kept)


def _fits(data: dict[str, Any]) -> bool:
    try:
        RecipeSpec.model_validate(data)
    except ValidationError:
        return False
    return True


def _name_clashes(spec: RecipeSpec, owners: list[Baseline], document: Document) -> list[Problem]:
    """Return the variants that have a dense model's name: their rows could not be told apart."""
    names = {owner.name for owner in owners}
    return [
        Problem(
            document.where(("variants", name)), f"{name!r} is the name of a card of this recipe; rename the variant"
        )
        for name in spec.variants
        if name in names
    ]


def _rate_notes(variants: list[Variant], baselines: list[Baseline]) -> list[str]:
    """Say which steps train faster than their baseline was trained: they forget more than they win back."""
    notes = []
    for baseline in baselines:
        training = baseline.card.training
        if training is None:
            continue
        for variant in variants:
            for name, rate in too_fast(variant.steps, training):
                what = f"learning_rate {rate:g} of {name} is above the {training.learning_rate:g} of {baseline.name}"
                named = variant_name(variant.name).entry
                notes.append(f"variant {named}: {what}, and undoes its training; a tenth of that is a good start")
    return list(dict.fromkeys(notes))


def too_fast(steps: Iterable[tuple[str, Technique]], training: TrainingSettings) -> list[tuple[str, float]]:
    """Return the steps that train with a larger learning rate than the baseline was trained with, each with that rate."""
    rates = [(name, one.rate_of_training()) for name, one in steps if one.epochs_of_training()]
    return [(name, rate) for name, rate in rates if rate > training.learning_rate]
