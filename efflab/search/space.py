"""A space of recipes: steps in which `choose` leaves settings, or whole lists of steps, open; pure data."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHOOSE = "choose"
MOST_SPELLED_OUT = 10_000  # points of a space that are listed one by one

Step = tuple[str, dict[str, Any]]  # a technique's name, and its settings
Point = dict[str, Any]  # dimension -> what was chosen: a place in its values, or a number of its range
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
        """Return what a choice stands for."""
        return self.values[choice] if self.values else choice

    def ends(self) -> list[Any]:
        """Return the choices at both ends of an order, or all where there is none."""
        if not self.values:
            return [self.low, self.high] if not self.whole else [int(self.low), int(self.high)]
        return list(dict.fromkeys((0, len(self.values) - 1))) if self.ordered else list(range(len(self.values)))

    def draw(self, generator: random.Random) -> Any:
        """Return a choice by chance."""
        if self.values:
            return generator.randrange(len(self.values))
        if self.whole:
            return generator.randint(int(self.low), int(self.high))
        if self.log:
            return math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return generator.uniform(self.low, self.high)


@dataclass(frozen=True)
class OpenStep:
    """A technique whose settings are given, or open."""

    technique: str
    fixed: dict[str, Any]
    open: tuple[tuple[str, Dimension], ...]  # setting -> its dimension


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


def parse_steps(steps: Sequence[Mapping[str, Any]], place: str = "") -> tuple[OpenStep | Fork, ...]:
    """Read steps as a recipe has them, with `choose`; raise ValueError, naming the step, for what is no choice."""
    found: list[OpenStep | Fork] = []
    for index, step in enumerate(steps):
        here = f"{place}{index}"
        if not isinstance(step, Mapping) or len(step) != 1:
            raise ValueError(f"step {here} must name exactly one technique with its settings, or `choose` with a list")
        ((name, content),) = step.items()
        if name == CHOOSE:
            found.append(_fork(content, here))
            continue
        settings = dict(content or {}) if isinstance(content, Mapping | None) else None
        if settings is None:
            raise ValueError(f"step {here}: the settings of {name} must be a mapping")
        if "sweep" in settings:
            raise ValueError(f"step {here}: a search has no sweep; write `{name}: {{choose: {{setting: [values]}}}}`")
        choose = settings.pop(CHOOSE, {})
        if not isinstance(choose, Mapping):
            raise ValueError(f"step {here}: choose must map settings of {name} to lists or ranges")
        twice = next((one for one in choose if one in settings), None)
        if twice:
            raise ValueError(f"step {here}: {twice!r} of {name} is given, and open too")
        opened = ((key, _dimension(f"{here}.{name}.{key}", value)) for key, value in choose.items())
        found.append(OpenStep(name, settings, tuple(opened)))
    return tuple(found)


def _fork(content: Any, here: str) -> Fork:
    if not isinstance(content, Sequence) or isinstance(content, str) or not content:
        raise ValueError(f"step {here}: choose as a step takes a list of lists of steps")
    ways = []
    for way, inner in enumerate(content):
        if not isinstance(inner, list):
            raise ValueError(f"step {here}: way {way} of choose must be a list of steps, [] for none")
        ways.append(parse_steps(inner, f"{here}.{way}."))
    return Fork(Dimension(here, tuple(range(len(ways)))), tuple(ways))


def _dimension(name: str, given: Any) -> Dimension:
    if isinstance(given, list) and given:
        numbers = all(type(one) in (int, float) for one in given)
        values = sorted(given) if numbers else given
        if len({repr(one) for one in values}) != len(values):
            raise ValueError(f"{name}: a value is given twice")
        return Dimension(name, tuple(values), ordered=numbers)
    if isinstance(given, Mapping) and {"from", "to"} <= given.keys() <= {"from", "to", "step", "log"}:
        low, high, step, log = given["from"], given["to"], given.get("step"), given.get("log", False)
        if not all(type(one) in (int, float) for one in (low, high)) or type(log) is not bool:
            raise ValueError(f"{name}: from and to must be numbers, log true or false")
        if not low < high or (log and low <= 0):
            raise ValueError(f"{name}: from must be less than to{', and more than 0 with log' if log else ''}")
        if step is None:
            return Dimension(name, low=low, high=high, log=log, whole=type(low) is int and type(high) is int)
        if type(step) not in (int, float) or step <= 0 or log:
            raise ValueError(f"{name}: step must be a number above 0, and stands without log")
        count = math.floor((high - low) / step + 1e-9) + 1
        if count > MOST_SPELLED_OUT:
            raise ValueError(f"{name}: {count:,} steps from {low} to {high}; take a larger step, or none")
        values = [low + step * place for place in range(count)]
        return Dimension(name, tuple(one if type(one) is int else round(one, 12) for one in values), ordered=True)
    raise ValueError(
        f"{name}: write a list of values, or a range `{{from: 0.1, to: 0.6}}` (with `step` or `log: true`)"
    )


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
            yield step.technique, {**step.fixed, **{key: decide(dimension) for key, dimension in step.open}}


def recipe_at(space: Space, point: Point) -> tuple[str, list[Step]]:
    """Return the card and the steps of a point."""
    _, card, steps = settle(space, lambda dimension: point[dimension.name])
    return card, steps


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
        f"{name}({', '.join(f'{key}={value}' for key, value in settings.items())})" if settings else name
        for name, settings in steps
    )
    return f"{card}: {' > '.join(parts) or 'as it is'}"
