"""What each kind of stage is told: typed, plain data that travels to a worker, and all that a stage's id depends on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from efflab.artefacts.artefact import Form
from efflab.contracts.executor import Resources
from efflab.contracts.task import SplitName, Task
from efflab.contracts.training_section import Optimizer
from efflab.foundation import registry
from efflab.foundation.config import Settings
from efflab.foundation.errors import RequestError

ASIDE = "aside"  # marks a field that stays out of a stage's id


class TaskRef(Settings):
    """A task as stages name it: by its settings, and by the digest that its data had when the plan was made."""

    name: str
    settings: dict[str, Any] = {}
    digest: str = ""
    near: Annotated[str, ASIDE] = ""  # the card's folder, to which paths in the settings are relative

    def load(self) -> Task:
        """Return the task; one process builds its data once."""
        return _task(self.name, json.dumps(self.settings, sort_keys=True), self.digest, self.near)

    def check(self) -> None:
        """Raise RequestError if the data here are not those of the plan: numbers of both must not stand side by side."""
        if self.digest:
            _check(self.name, json.dumps(self.settings, sort_keys=True), self.digest, self.near)


@cache
def _task(name: str, settings: str, digest: str, near: str) -> Task:
    task: Task = registry.load("tasks", name)(**json.loads(settings))
    return task.beside(Path(near))


@cache
def _check(name: str, settings: str, digest: str, near: str) -> None:
    if _task(name, settings, digest, near).digest() != digest:
        raise RequestError(f"the data of the task {name!r} here are not those that the plan was made for; plan again")


class LoadBaseline(Settings):
    """Check what a card names and store its model as an artefact: the only stage that reads files of the user."""

    kind: Literal["baseline"] = "baseline"
    content: dict[str, Any]  # of the card: what its identity depends on
    seed: int
    form: Form
    task: TaskRef
    card: Annotated[str, ASIDE]  # the card's file

    @property
    def weights_seed(self) -> int:
        """The seed of the dense weights."""
        return self.seed

    @property
    def resources(self) -> Resources:
        """Where it may run."""
        return Resources(home=True)


class ApplyTechnique(Settings):
    """Apply one technique. It needs the artefact before it, the baseline's, and that of each teacher, in this order."""

    kind: Literal["step"] = "step"
    technique: str
    settings: dict[str, Any]
    version: int
    seed: int
    task: TaskRef
    threads: int = 1  # part of the id: sums of another number round in another order
    optimizer: Optimizer = "sgd"  # by which the baseline was trained
    teachers: list[str] = []  # the names of the cards that it needs beside the baseline
    weights_seed: Annotated[int, ASIDE] = 0  # of the baseline's weights
    pause_at: Annotated[float | None, ASIDE] = None  # the share of a training after which it pauses for a look

    @property
    def resources(self) -> Resources:
        """Where it may run."""
        return Resources(cores=self.threads)


class Score(Settings):
    """Score an artefact on a backend: `quality` on the test split, `validation`, by which a search chooses, on that one."""

    kind: Literal["quality", "validation"]
    backend: str
    settings: dict[str, Any]
    task: TaskRef
    threads: int = 1
    gpus: Annotated[int, ASIDE] = 0  # that the backend runs on

    @property
    def split(self) -> SplitName:
        """The split that it scores."""
        return "test" if self.kind == "quality" else "validation"

    @property
    def resources(self) -> Resources:
        """Where it may run."""
        return Resources(cores=self.threads, gpus=self.gpus)


class TimeInTurn(Settings):
    """Time artefacts in turn on one machine, nothing else at work there."""

    kind: Literal["latency"] = "latency"
    backend: str
    settings: dict[str, Any]
    batch_size: int
    budget: dict[str, Any]  # of efflab.profiling.latency.Budget
    machine: str  # the id of the machine that it is planned for
    threads: int
    members: dict[str, str]  # label -> the stage of its artefact
    task: TaskRef
    inputs: int = 1  # batches over which the calls go in turn, where the work of a member depends on the input
    gpus: Annotated[int, ASIDE] = 0  # that the backend runs on

    @property
    def resources(self) -> Resources:
        """Where it may run."""
        return Resources(cores=self.threads, gpus=self.gpus, alone=True)


StageSpec = LoadBaseline | ApplyTechnique | Score | TimeInTurn


def told(spec: StageSpec) -> dict[str, Any]:
    """Return what a stage's id depends on: all of its spec that is not marked as aside."""
    return spec.model_dump(exclude={**dict.fromkeys(_asides(type(spec)), True), "task": _asides(TaskRef)})


@cache
def _asides(schema: type[Settings]) -> set[str]:
    return {name for name, field in schema.model_fields.items() if ASIDE in field.metadata}


def read_spec(data: dict[str, Any]) -> StageSpec:
    """Return the spec that `model_dump` gave; raise ValueError for what is none."""
    spec: StageSpec = _specs().validate_python(data)
    return spec


@cache
def _specs() -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[StageSpec, Field(discriminator="kind")])
