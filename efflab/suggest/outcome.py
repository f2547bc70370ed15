"""What one recipe gave on one baseline at one place: the unit from which `suggest` learns.

A recipe is a tuple of steps, (technique, settings), with every setting of this version of efflab filled in, so that a study
written before a technique gained a setting tells the same recipe. Seeds are averaged, as they are in the rows of `compare`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from efflab.comparison.columns import AXES
from efflab.comparison.place import Place, place_of
from efflab.comparison.row import Row
from efflab.records.quality import SHARE, units_in_one
from efflab.records.step_settings import side_by_side
from efflab.records.study import Study
from efflab.statistics import Interval

DRAWS = 100  # of the bootstrap behind a standard error: an interval's ends need many more, its width does not
WIDTH = 3.92  # a normal 95 % interval in standard errors
# what can be asked for, and how it is read off a row; all are ratios of which more is better
GOALS: dict[str, Callable[[Row], Interval]] = {
    "time": lambda row: row.shift("latency").judged,
    "macs": lambda row: row.shift("macs").judged,
    "bits": lambda row: row.shift("bits").judged,
    "bytes": lambda row: row.shift("bytes").judged,
    "energy": lambda row: row.shift("energy").judged,
    "memory": lambda row: row.shift("memory").judged,
    "speedup": lambda row: row.against.speedup,
}
COUNTED = ("macs", "bits", "bytes")  # goals that are counted, not timed: machine and batch size do not enter

Recipe = tuple[tuple[str, str], ...]  # technique and its settings as JSON with sorted keys, so that recipes can be keys


@dataclass(frozen=True)
class Model:
    """A dense model as its records describe it; `error` is a fraction where the metric is a share."""

    name: str  # the card
    kind: str  # of network, e.g. resnet; without a family a kind of its own
    family: str
    task: str
    metric: str
    macs: float  # 0 where they were not counted yet, like params
    params: float
    error: float
    unit: str = SHARE  # of differences of the metric


@dataclass(frozen=True)
class Target:
    """Where a model is measured."""

    backend: str  # with its settings, e.g. openvino[precision=bf16]
    batch_size: int
    machine: str


class Ratio(NamedTuple):
    """The logarithm of a ratio, and its standard error."""

    log: float
    se: float


@dataclass(frozen=True)
class Outcome:
    """What a recipe gave: a ratio for each goal that could be worked out, and the ratio of errors."""

    model: Model
    place: Target
    recipe: Recipe
    study: str
    records: int  # behind it
    gains: dict[str, Ratio]  # goal -> ln of M, or of the speed-up
    error: Ratio | None  # ln of the error over the baseline's


def kind_of(family: str | None) -> str:
    """Return the kind of network that a family's name ends with: `cifar10-resnet` -> `resnet`; "" without a family."""
    return (family or "").rpartition("-")[2]


def points_of(log_error: float, error: float, unit: str = SHARE) -> float:
    """Return by how many points (or other units) a model gets better whose error becomes exp(log_error) times as large."""
    return -units_in_one(unit) * error * (math.exp(log_error) - 1)


def distil(study: Study) -> tuple[list[Model], list[Outcome]]:
    """Return the dense models of a study, and what its variants gave; controls, repeats and failed rows tell of no recipe.

    Steps are as the records have them: `current` says which of them this version still knows.
    """
    from efflab.comparison.compare import assess

    models: dict[str, Model] = {}
    rows = assess(study, tuple(AXES), DRAWS).rows
    for row in rows:
        work, error = row.work, row.quality.error.value
        dense = row.role in ("baseline", "dense") and row.baseline not in models
        if dense and work.macs and work.params and error > 0:
            models[row.baseline] = Model(
                name=row.baseline, kind=kind_of(row.family) or row.baseline, family=row.family or "", task=row.place.task.name,
                metric=row.quality.metric or "", macs=work.macs, params=work.params, error=error,
                unit=row.quality.unit,
            )  # fmt: skip
    steps: dict[tuple[str, Place], Recipe] = {}
    count: Counter[tuple[str, Place]] = Counter()
    for record in study["records"]:
        # a variant that starts from another card is compared with a model that it was not made of
        if record["role"] == "variant" and record["of"] == record["baseline"]:
            key = (record["variant"], place_of(record, study["data"]))
            steps[key] = recipe_of(record["steps"])
            count[key] += 1
    outcomes = []
    for row in rows:
        key = (row.variant, row.place)
        if row.role == "variant" and row.status == "ok" and row.baseline in models and steps.get(key):
            target = Target(row.place.backend, row.place.batch_size, row.place.machine)
            gains = {goal: ratio for goal, read in GOALS.items() if (ratio := _ratio(read(row)))}
            model, study_name = models[row.baseline], study["name"]
            outcomes.append(Outcome(model, target, steps[key], study_name, count[key], gains, _error(row, model)))
    return list(models.values()), outcomes


def recipe_of(steps: Iterable[Mapping[str, Any]]) -> Recipe:
    """Return the steps of a record, or of a recipe file, as a recipe; () where they are none."""
    try:
        return tuple(
            (str(name), json.dumps(settings or {}, sort_keys=True)) for step in steps for name, settings in step.items()
        )
    except (AttributeError, TypeError):
        return ()


def settings_of(step: tuple[str, str]) -> dict[str, Any]:
    """Return the settings of one step."""
    found: dict[str, Any] = json.loads(step[1])
    return found


def odd_work(study: Study) -> str:
    """Name the first record whose work is not above zero and finite, for no law can be fitted to it; "" if there is none."""
    for index, record in enumerate(study["records"]):
        for name in ("macs", "params", "bit_operations", "artefact_bytes"):
            value: Any = record.get("work", {}).get(name, 1)
            if not 0 < value < math.inf:
                return f"records[{index}]: work.{name} is {value}, where only a number above 0 can be"
    return ""


@cache
def current(step: tuple[str, str]) -> tuple[str, str] | None:
    """Return a step with all settings of this version, or None where technique or settings are no longer known."""
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError

    try:
        technique = registry.load("techniques", step[0]).model_validate(json.loads(step[1]))
    except (RequestError, ValueError):  # pydantic's errors are ValueErrors
        return None
    return step[0], json.dumps(technique.model_dump(mode="json"), sort_keys=True)


@cache
def unknown(step: tuple[str, str]) -> str:
    """Say what of a step this version does not take: `prune_channels(ratio=7)`."""
    from efflab.foundation import registry
    from efflab.foundation.errors import RequestError

    name, settings = step[0], json.loads(step[1])
    try:
        registry.load("techniques", name).model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        told = side_by_side(settings)
        key = next((str(one) for one in first["loc"] if one in told), str(next(iter(first["loc"]), "")))
        if first["type"] == "extra_forbidden":
            return f"{name} (it has no setting {key})"
        return f"{name}({key}={json.dumps(told.get(key))})" if key else f"{name} ({' '.join(first['msg'].split())})"
    except RequestError as error:
        return f"{name} ({error.problems[0].what.partition(';')[0]})"
    return name


def _ratio(found: Interval) -> Ratio | None:
    if not (found.value > 0 and found.low > 0):
        return None
    return Ratio(math.log(found.value), (math.log(found.high) - math.log(found.low)) / WIDTH)


def _error(row: Row, model: Model) -> Ratio | None:
    """Return the ratio of a row's error to its baseline's; one without any error counts as half a point in a hundred."""
    points, error = row.against.difference, row.quality.error.value
    if not points.bounded:
        return None
    unit = units_in_one(row.quality.unit)
    before = error + points.value / unit  # paired: the baseline's error on the same seeds and this backend
    least = LEAST_SHARE * model.error
    after, before = max(error, least), max(before, least)
    return Ratio(math.log(after / before), (points.high - points.low) / WIDTH / unit / after)


LEAST_SHARE = 0.005  # of the baseline's error: where a model makes no error at all, its logarithm has to end somewhere


def packed(models: Iterable[Model], outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return models and outcomes as JSON data; `unpacked` gives them back."""
    return {"models": [asdict(one) for one in models], "outcomes": [_packed(one) for one in outcomes]}


def _packed(one: Outcome) -> dict[str, Any]:
    return {**asdict(replace(one, recipe=())), "model": one.model.name, "recipe": one.recipe}


def unpacked(data: Mapping[str, Any]) -> tuple[list[Model], list[Outcome]]:
    """Return what `packed` was given; raise KeyError, TypeError or ValueError for other data."""
    models = {one["name"]: Model(**one) for one in data["models"]}
    outcomes = [
        Outcome(
            model=models[one["model"]],
            place=Target(**one["place"]),
            recipe=tuple((str(name), str(settings)) for name, settings in one["recipe"]),
            study=str(one["study"]),
            records=int(one["records"]),
            gains={goal: Ratio(*ratio) for goal, ratio in one["gains"].items()},
            error=Ratio(*one["error"]) if one["error"] else None,
        )
        for one in data["outcomes"]
    ]
    return list(models.values()), outcomes
