"""What became of the stages of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from efflab.plan.stage_graph import Stage
from efflab.records.store import Store


@dataclass
class Outcomes:
    """Results of finished stages, and the reasons of the others."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)  # stage -> (status, reason)
    paused: dict[str, dict[str, Any]] = field(default_factory=dict)  # stage -> how far its training is, {} if it waits


def keep(stage: Stage, result: dict[str, Any], seconds: float, store: Store) -> None:
    """Put the result of a finished stage into the store, with what it is of."""
    about = {"kind": stage.kind, "title": stage.title, "spec": stage.spec, "seconds": seconds}
    store.commit(stage.id, result, about)
