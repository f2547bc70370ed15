"""The `search` section of a recipe, as its YAML says, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from efflab.cards.baseline import Baseline
from efflab.cards.card_files import start_card
from efflab.cards.family import family_members
from efflab.contracts.technique import Technique
from efflab.foundation import registry
from efflab.foundation.config import Document, Key, Settings, check, collect
from efflab.foundation.errors import Problem, RequestError
from efflab.recipe.backend_choice import BackendChoice, BackendEntry, choose_backend
from efflab.recipe.search_choices import BadChoice, parse_steps
from efflab.recipe.search_goal import LATENCY, Goal, check_metric, contradiction, parse_bound
from efflab.recipe.search_space import Dimension, OpenStep, Space, count_paths, paths, recipe_at
from efflab.recipe.step_order import misfit, order_problems
from efflab.recipe.variants import Variant
from efflab.records.quality import SHARE
from efflab.records.trial import Point

KEY: Key = ("search",)
MOST_PATHS = 256  # ways through the forks of a space, each of which is checked before anything is run


def _bound(text: str) -> str:
    parse_bound(text, shares=False)
    return text


class SearchSpec(Settings):
    """What is searched, for what, and how long."""

    start: Annotated[
        Literal["family"] | Annotated[list[str], Field(min_length=1)] | None,
        Field(description="Cards that trials may start from, or `family`; without it, the baseline."),
    ] = None
    steps: Annotated[list[dict[str, Any]], Field(description="Steps in which `choose` leaves settings or steps open.")]
    minimize: Annotated[
        str | Annotated[list[str], Field(min_length=1)], Field(description="Metric to minimise, or a list of metrics.")
    ]
    where: Annotated[
        list[Annotated[str, AfterValidator(_bound)]], Field(description="Bounds to keep, such as `error <= 0.12`.")
    ] = []
    backend: Annotated[
        BackendEntry | None,
        Field(description="Backend of quality and latency; without it, the first that the recipe measures."),
    ] = None
    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | None,
        Field(description="Batch size of latency; without it, the first that the recipe measures."),
    ] = None
    trials: Annotated[int, Field(ge=1, le=100_000, description="Number of recipes that are tried.")] = 20
    at_once: Annotated[int, Field(ge=1, le=256, description="Trials that are proposed and made at the same time.")] = 2
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Seed of the proposals and of the trials.")] = 0
    budget_s: Annotated[
        Annotated[float, Field(gt=0, le=1e8)] | None,
        Field(description="Seconds of trials after which no further trial begins."),
    ] = None
    keep: Annotated[int, Field(ge=1, le=20, description="Recipes of the front that the study then measures.")] = 3

    @field_validator("where")
    @classmethod
    def _bounds(cls, where: list[str]) -> list[str]:
        wrong = contradiction([parse_bound(one, shares=False) for one in where])
        if wrong:
            raise ValueError(wrong)
        return where

    @field_validator("minimize")
    @classmethod
    def _metrics(cls, minimize: str | list[str]) -> str | list[str]:
        names = [minimize] if isinstance(minimize, str) else minimize
        for name in names:
            check_metric(name)
            if name == "quality":
                raise ValueError("quality is not to be minimised; minimize error")
        if len(set(names)) != len(names):
            raise ValueError("a metric is given twice")
        return minimize

    @model_validator(mode="after")
    def _something_to_win(self) -> SearchSpec:
        if self.goal.minimize == ("error",) and not self.goal.bounds:
            raise ValueError("minimize error without a bound finds the largest model; add a second metric, or `where`")
        return self

    @property
    def goal(self) -> Goal:
        """What the trials are judged by."""
        minimize = (self.minimize,) if isinstance(self.minimize, str) else tuple(self.minimize)
        return Goal(minimize, tuple(parse_bound(one, shares=False) for one in self.where))


@dataclass(frozen=True)
class Search:
    """A checked search."""

    spec: SearchSpec
    space: Space
    goal: Goal
    starts: dict[str, Baseline]
    reference: Baseline  # latencies are taken in turn with its own
    backend: BackendChoice
    batch_size: int
    techniques: tuple[tuple[str, Technique], ...]  # every one that a trial may use, for what they name
    place: str  # of the section, for messages

    @property
    def timed(self) -> bool:
        """Whether the clock decides: such a search belongs to one machine."""
        return LATENCY in self.goal.metrics

    def variant(self, point: Point, name: str = "") -> tuple[Baseline, Variant]:
        """Return the card and the steps of a point; raise RequestError for settings that do not go together."""
        card, steps = recipe_at(self.space, point)
        made = tuple(_technique(*step) for step in steps)
        return self.starts[card], Variant(name, None, made, own=len(steps), start=card)


def checked_search(
    spec: SearchSpec,
    reference: Baseline,
    backends: Sequence[BackendChoice],
    batch_sizes: Sequence[int],
    document: Document,
    problems: list[Problem],
) -> Search | None:
    """Check the `search` section of a recipe with everything that it names; what is wrong is added to `problems`."""
    starts = _starts(spec, reference, document, problems)
    if reference.task.metrics[0].unit == SHARE:
        for index, text in enumerate(spec.where):
            try:
                parse_bound(text)
            except ValueError as error:
                problems.append(Problem(document.where((*KEY, "where", index)), str(error)))
    backend = backends[0] if backends else None
    if spec.backend is not None:
        backend = choose_backend(spec.backend, document, (*KEY, "backend"), problems)
    place = document.where((*KEY, "steps"))
    try:
        space = Space(Dimension("start", tuple(starts)), parse_steps(spec.steps))
    except BadChoice as error:
        problems.append(Problem(document.where((*KEY, "steps", *error.key)), str(error)))
        return None
    if count_paths(space.steps) > MOST_PATHS:
        problems.append(Problem(place, f"{count_paths(space.steps):,} ways through `choose`; {MOST_PATHS} is the most"))
        return None
    if not space.steps and len(starts) < 2:
        problems.append(Problem(place, "there are no steps, and one card to start from: nothing to search"))
    techniques = [one for way in paths(space.steps) for one in _check_way(way, starts, backend, document, problems)]
    if problems or backend is None:
        return None
    batch_size, place = spec.batch_size or batch_sizes[0], document.where(KEY)
    return Search(spec, space, spec.goal, starts, reference, backend, batch_size, tuple(techniques), place)


def _starts(spec: SearchSpec, reference: Baseline, document: Document, problems: list[Problem]) -> dict[str, Baseline]:
    if spec.start is None:
        return {reference.name: reference}
    if spec.start == "family":
        family = reference.card.family
        if family is None:
            what = f"{reference.name} belongs to no family; name the cards in a list"
            problems.append(Problem(document.where((*KEY, "start")), what))
            return {}
        return {member.name: member for member in family_members(family, document.path)}
    found: dict[str, Baseline] = {}
    for index, name in enumerate(spec.start):
        key = (*KEY, "start", index)
        baseline = collect(problems, document, partial(start_card, name, reference, document, key), key)
        if baseline and baseline.name in found:
            problems.append(Problem(document.where(key), f"{name} is given twice"))
        elif baseline:
            found[baseline.name] = baseline
    return found


def _check_way(
    way: tuple[OpenStep, ...],
    starts: dict[str, Baseline],
    backend: BackendChoice | None,
    document: Document,
    problems: list[Problem],
) -> list[tuple[str, Technique]]:
    """Check the techniques on one way through the space: names, every value by itself, their order, and the backend.

    Returns every technique that was tried.
    """
    found: list[tuple[str, Technique]] = []
    every: list[tuple[str, Technique]] = []
    for step in way:
        key: Key = (*KEY, "steps", *step.key)
        schema = collect(problems, document, partial(registry.load, "techniques", step.technique), key)
        if schema is None:
            return every
        first = {name: dimension.value(dimension.ends()[0]) for name, dimension in step.open}
        tried = [first]
        for name, dimension in step.open:
            values = dimension.values or (dimension.low, dimension.high)
            tried += [{**first, name: value} for value in values[1:]]
        made = [
            collect(problems, document, partial(_checked, schema, step, step.settings(chosen), document))
            for chosen in tried
        ]
        every += [(step.technique, one) for one in made if one]
        if made[0] is None:
            return every
        found.append((step.technique, made[0]))
    variant = Variant("search", None, tuple(found))
    place = document.where((*KEY, "steps", *(way[-1].key if way else ())))
    for form in dict.fromkeys(one.form for one in starts.values()):
        wrong = [problem.what for problem in order_problems([variant], form, document)]
        if not wrong and backend:
            wrong = list(filter(None, [misfit(variant, form, backend.name, backend.settings.takes)]))
        problems += [Problem(place, f"{spelled_way(way)}: {what}") for what in wrong]
    return every


def spelled_way(way: tuple[OpenStep, ...]) -> str:
    """Return the techniques of a way in one line."""
    return " > ".join(step.technique for step in way) or "(no steps)"


def _checked(schema: type[Technique], step: OpenStep, settings: dict[str, Any], document: Document) -> Technique:
    try:
        return check(schema, document, (*KEY, "steps", *step.key), settings)
    except RequestError as error:
        raise RequestError([Problem(one.where, f"{step.technique}: {one.what}") for one in error.problems]) from error


def _technique(name: str, settings: dict[str, Any]) -> tuple[str, Technique]:
    from pydantic import ValidationError

    schema = registry.load("techniques", name)
    try:
        return name, schema.model_validate(settings)
    except ValidationError as error:
        what = "; ".join(item["msg"] for item in error.errors())
        raise RequestError(f"{name} does not take {settings}: {what}") from error
