"""What a case is run with: a backend with its threads and tolerances; and the one way to call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from efflab.artefacts.artefact import Artefact
from efflab.contracts.backend import Backend, Session
from efflab.validation.backends.tolerance import Rule


@dataclass(frozen=True)
class Bench:
    """A backend under test."""

    name: str
    backend: Backend
    threads: int
    rules: tuple[Rule, ...]

    def prepare(self, artefact: Artefact, example: tuple[Any, ...]) -> Session:
        """Prepare a session as a run does."""
        return self.backend.prepare(artefact, example, self.threads)


def call(session: Session, inputs: tuple[Any, ...], outputs: int | None = None) -> list[Any]:
    """Run one call from start to end and return its outputs as a list; `outputs`: how many the model has, if known."""
    found = session(inputs)
    if outputs == 1 or (outputs is None and not isinstance(found, (list, tuple))):
        return [found]
    return list(found)


def fallbacks_in_words(session: Session) -> str:
    """Return which operators ran elsewhere, and where; "" if none did, or the runtime does not tell."""
    elsewhere: dict[str, list[str]] = {}
    for operator, device in sorted(session.fallbacks().items()):
        elsewhere.setdefault(device, []).append(operator)
    return "; ".join(f"{', '.join(operators)} on {device}" for device, operators in elsewhere.items())
