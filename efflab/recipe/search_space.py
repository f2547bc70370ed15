"""A space of recipes: steps in which `choose` leaves settings, or whole lists of steps, open; pure data."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efflab.records.step_settings import side_by_side
from efflab.records.trial import Point

Step = tuple[str, dict[str, Any]]  # a technique's name, and its settings
Ask = Callable[["Dimension"], Any]


@dataclass(frozen=True)
class Dimension:
    """One thing that is open: values in a list, or a range of numbers.

    ordered: whether neighbours in the list are alike, as numbers are.
    """

    name: str
    values: tuple[Any, ...] = ()
    ordered: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False  # of a range: whole numbers only

    @property
    def size(self) -> float:
        """How many choices there are; infinite for a range of fractions."""
        if self.values:
            return len(self.values)
        return self.high - self.low + 1 if self.whole else math.inf

    def value(self, choice: Any) -> Any:
        """Return what a choice stands for; a fraction with four digits, for people to read."""
        if self.values:
            return self.values[choice]
        return choice if self.whole else min(self.high, max(self.low, float(f"{choice:.4g}")))

    def allows(self, choice: float) -> bool:
        """Say whether a choice is one of this dimension's."""
        if self.values:
            return type(choice) is int and 0 <= choice < len(self.values)
        return self.low <= choice <= self.high and (type(choice) is int or not self.whole)

    def ends(self) -> list[Any]:
        """Return the choices at both ends of an order, or all where there is none."""
        if not self.values:
            return [self.low, self.high] if not self.whole else [int(self.low), int(self.high)]
        return list(dict.fromkeys((0, len(self.values) - 1))) if self.ordered else list(range(len(self.values)))

    def draw(self, generator: random.Random) -> Any:
        """Return a choice by chance."""
        if self.values:
            return generator.randrange(len(self.values))
        if self.log:
            found = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
            return round(found) if self.whole else found
        return (
            generator.randint(int(self.low), int(self.high)) if self.whole else generator.uniform(self.low, self.high)
        )


@dataclass(frozen=True)
class OpenStep:
    """A technique whose settings are given, or open."""

    technique: str
    fixed: dict[str, Any]
    open: tuple[tuple[str, Dimension], ...]  # setting -> its dimension; `training.epochs` is one of a section
    key: tuple[str | int, ...] = ()  # where it stands below the steps of the recipe's section

    def settings(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings, `chosen` being what was open."""
        found = dict(self.fixed)
        for name, value in chosen.items():
            section, _, inner = name.partition(".")
            found[section] = {**found[section], inner: value} if inner else value
        return found


@dataclass(frozen=True)
class Fork:
    """One of several lists of steps."""

    dimension: Dimension  # its values are the places of `ways`
    ways: tuple[tuple[OpenStep | Fork, ...], ...]


@dataclass(frozen=True)
class Space:
    """Where a trial starts, and what it may do."""

    start: Dimension  # its values are cards
    steps: tuple[OpenStep | Fork, ...]


def settle(space: Space, ask: Ask) -> tuple[Point, str, list[Step]]:
    """Ask for every dimension that is open and met on the way; return the choices, the card, and the steps."""
    point: Point = {}

    def decide(dimension: Dimension) -> Any:
        # what leaves nothing to choose is no dimension for whoever is asked
        point[dimension.name] = ask(dimension) if dimension.size > 1 else 0
        return dimension.value(point[dimension.name])

    card = decide(space.start)
    return point, card, list(_settled(space.steps, decide))


def _settled(steps: Sequence[OpenStep | Fork], decide: Callable[[Dimension], Any]) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Fork):
            yield from _settled(step.ways[decide(step.dimension)], decide)
        else:
            yield step.technique, step.settings({key: decide(dimension) for key, dimension in step.open})


def recipe_at(space: Space, point: Point) -> tuple[str, list[Step]]:
    """Return the card and the steps of a point."""
    _, card, steps = settle(space, lambda dimension: point[dimension.name])
    return card, steps


def holds(space: Space, point: Point) -> bool:
    """Say whether a point, such as one from a file, lies in the space."""

    def ask(dimension: Dimension) -> Any:
        choice = point[dimension.name]
        if type(choice) not in (int, float) or not dimension.allows(choice):
            raise KeyError(dimension.name)
        return choice

    try:
        return settle(space, ask)[0].keys() == point.keys()
    except KeyError:
        return False


def size(space: Space) -> float:
    """Return how many points a space has; infinite with a range of fractions."""
    return space.start.size * _size(space.steps)


def _size(steps: Sequence[OpenStep | Fork]) -> float:
    count = 1.0
    for step in steps:
        if isinstance(step, Fork):
            count *= sum(_size(way) for way in step.ways)
        else:
            count *= math.prod(dimension.size for _, dimension in step.open)
    return count


def count_paths(steps: Sequence[OpenStep | Fork]) -> int:
    """Return how many lists of techniques the forks allow."""
    return math.prod(sum(count_paths(way) for way in step.ways) for step in steps if isinstance(step, Fork))


def paths(steps: Sequence[OpenStep | Fork]) -> list[tuple[OpenStep, ...]]:
    """Return every list of techniques that forks allow, their settings still open."""
    choices = [
        [path for way in step.ways for path in paths(way)] if isinstance(step, Fork) else [(step,)] for step in steps
    ]
    return [tuple(itertools.chain(*combination)) for combination in itertools.product(*choices)]


def dimensions(space: Space) -> list[Dimension]:
    """Return all dimensions, whether or not every point meets them."""
    found = [space.start]

    def visit(steps: Sequence[OpenStep | Fork]) -> None:
        for step in steps:
            if isinstance(step, Fork):
                found.append(step.dimension)
                for way in step.ways:
                    visit(way)
            else:
                found.extend(dimension for _, dimension in step.open)

    visit(space.steps)
    return found


def corners(space: Space, most: int, seed: int = 0) -> list[Point]:
    """Return up to `most` points at the ends of all orders and ranges, drawn by chance where there are more."""
    generator = random.Random(seed)
    found: dict[str, Point] = {}
    for _ in range(20 * most):
        point, _, _ = settle(space, lambda dimension: generator.choice(dimension.ends()))
        found.setdefault(name_of(point), point)
        if len(found) == most:
            break
    return list(found.values())


def name_of(point: Point) -> str:
    """Return a text that tells points apart."""
    return ";".join(f"{key}={point[key]!r}" for key in sorted(point))


def spelled(card: str, steps: Sequence[Step]) -> str:
    """Return a recipe in one line: `digits-resnet-w8: prune_channels(ratio=0.3) > finetune(epochs=2)`."""
    parts = (
        f"{name}({', '.join(f'{key}={value}' for key, value in side_by_side(settings).items())})" if settings else name
        for name, settings in steps
    )
    return f"{card}: {' > '.join(parts) or 'as it is'}"
