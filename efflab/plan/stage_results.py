"""What each kind of stage gives to those that come after it, and to the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from efflab.artefacts.artefact import Form
from efflab.foundation.errors import Status
from efflab.records.cost import CostRecord
from efflab.records.record import Quality, StepFidelity, Work


class Rung(TypedDict):
    """What a training was worth, and had cost, when it paused for a look."""

    quality: float  # on the validation split
    cost: CostRecord


@dataclass(frozen=True)
class Made:
    """An artefact: its form, its work, and what it cost to make."""

    form: Form
    batch: int | None  # the number of examples that it takes, where it takes one only
    work: Work
    cost: CostRecord
    fidelity: StepFidelity | None = None  # of a step
    rung: Rung | None = None

    def data(self) -> dict[str, Any]:
        """Return it as the store keeps it."""
        return {name: value for name, value in vars(self).items() if name == "batch" or value is not None}


@dataclass(frozen=True)
class Scored:
    """A score, with every example's own."""

    quality: Quality

    def data(self) -> dict[str, Any]:
        """Return it as the store keeps it."""
        return {**self.quality}


@dataclass(frozen=True)
class Timed:
    """Raw times by label (as `efflab.profiling.latency.Timing`), and how those that have none ended."""

    timings: dict[str, Any]
    reasons: dict[str, tuple[Status, str]]
    examples: int | None = (
        None  # different ones of which a batch is made; None: an older result, which may be cut short
    )

    def data(self) -> dict[str, Any]:
        """Return it as the store keeps it."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def failures(self) -> str:
        """Say which labels have no times, and why; empty if all have."""
        labels: dict[str, list[str]] = {}
        for label, (_, reason) in self.reasons.items():
            labels.setdefault(reason, []).append(label)
        return "; ".join(f"{', '.join(some)}: {reason}" for reason, some in labels.items())


StageResult = Made | Scored | Timed


def read_result(kind: str, data: dict[str, Any]) -> StageResult:
    """Return the result of a stage of this kind from what the store keeps."""
    if kind == "latency":
        reasons: Any = {label: tuple(ending) for label, ending in data["reasons"].items()}
        return Timed(**{**data, "reasons": reasons})
    return Made(**data) if kind in ("baseline", "step") else Scored(data)  # type: ignore[arg-type]
