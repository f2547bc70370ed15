"""The contract of an executor: what a job is, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """A stage to run: plain data, so that any engine can carry it."""

    stage_id: str
    kind: str
    spec: dict[str, Any]
    needs: tuple[str, ...]  # folders of the finished stages that it needs
    folder: str  # where it works


@dataclass(frozen=True)
class Done:
    """What became of a job: `status` is ok, paused, failed, unavailable or disk full."""

    stage_id: str
    status: str
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    refused: bool = False  # failed because what was asked for is wrong, in the words of `reason`


@dataclass(frozen=True)
class Progress:
    """How far a running job is."""

    stage_id: str
    done: int
    total: int
    note: str


class Executor(Protocol):
    """Takes jobs while `free()` is positive and gives back what happens to them."""

    def free(self) -> int:
        """Return how many more jobs it takes now."""

    def submit(self, job: Job) -> None:
        """Start a job."""

    def wait(self) -> list[Done | Progress]:
        """Return what has happened, after waiting a short while for something to happen."""

    def close(self) -> None:
        """Stop everything."""
