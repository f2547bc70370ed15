"""The contract of an executor: what a job is, where it may run, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Resources(NamedTuple):
    """What a stage wants of the machine that it runs on."""

    cores: int = 1
    memory_gb: float | None = None  # None: as much as the executor lets a stage have
    gpus: int = 0
    alone: bool = False  # nothing else runs beside it
    home: bool = False  # it reads files of the user, so it runs where the driver does


@dataclass(frozen=True)
class Job:
    """A stage to run: plain data, so that any engine can carry it. No path is in it but in the spec of a stage at home."""

    stage_id: str
    title: str
    spec: dict[str, Any]  # of efflab.plan.stage_specs, as plain data
    needs: tuple[str, ...]  # ids of the finished stages that it needs, which the worker fetches from the store
    resources: Resources
    named_models: tuple[str, ...] = ()  # marks of the Python functions that the user's cards name (`user_models`)

    def data(self) -> dict[str, Any]:
        """Return it as JSON can carry it."""
        lists = {"needs": [*self.needs], "resources": [*self.resources], "named_models": [*self.named_models]}
        return {**vars(self), **lists}


def read_job(data: dict[str, Any]) -> Job:
    """Return the job that `Job.data` gave."""
    told = {"needs": tuple(data["needs"]), "resources": Resources(*data["resources"])}
    return Job(**{**data, **told, "named_models": tuple(data.get("named_models", ()))})


@dataclass(frozen=True)
class Done:
    """What became of a job: `status` is ok, paused, failed, unavailable or disk full."""

    stage_id: str
    status: str
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    refused: bool = False  # failed because what was asked for is wrong, in the words of `reason`
    machine: dict[str, Any] = field(default_factory=dict)  # fingerprint of where it ran; empty: that of the driver


@dataclass(frozen=True)
class Progress:
    """How far a running job is."""

    stage_id: str
    done: int
    total: int
    note: str


class Executor(Protocol):
    """Takes jobs while `free()` is positive and gives back what happens to them."""

    def free(self, wanted: Resources = ...) -> int:
        """Return how many more jobs that want this it takes now."""

    def submit(self, job: Job) -> None:
        """Start a job; its worker takes what it needs from the store, and puts there what it made."""

    def wait(self) -> list[Done | Progress]:
        """Return what has happened, after waiting a short while for something to happen."""

    def close(self) -> None:
        """Stop everything."""
