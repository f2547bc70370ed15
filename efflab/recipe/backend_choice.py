"""The backends that a recipe names, with their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from efflab.contracts.backend import Backend
from efflab.foundation import registry
from efflab.foundation.config import Document, Key, check, collect
from efflab.foundation.errors import Problem

BackendEntry = str | dict[str, dict[str, Any] | None]  # `openvino`, or `openvino: {precision: bf16}`


@dataclass(frozen=True)
class BackendChoice:
    """A backend with its settings, and its label in tables."""

    name: str
    settings: Backend

    @property
    def label(self) -> str:
        """The backend's name with the settings that differ from its defaults: `openvino[precision=bf16]`."""
        shown = ",".join(f"{key}={value}" for key, value in self.settings.model_dump(exclude_defaults=True).items())
        return f"{self.name}[{shown}]" if shown else self.name


def choose_backends(
    entries: Sequence[BackendEntry], document: Document, key: Key, problems: list[Problem]
) -> list[BackendChoice]:
    """Check the entries, which stand in a list under `key`; what is wrong is added to `problems`."""
    chosen: dict[str, BackendChoice] = {}
    for index, entry in enumerate(entries):
        choice = choose_backend(entry, document, (*key, index), problems)
        if choice and choice.label in chosen:
            problems.append(Problem(document.where((*key, index)), f"{choice.label} is given twice"))
        elif choice:
            chosen[choice.label] = choice
    if not chosen and not problems:
        problems.append(Problem(document.where(key), "no backend is given"))
    return list(chosen.values())


def choose_backend(entry: BackendEntry, document: Document, key: Key, problems: list[Problem]) -> BackendChoice | None:
    """Check one entry, which stands under `key`; None, and a problem, for one that is wrong."""
    if isinstance(entry, dict) and len(entry) != 1:
        problems.append(Problem(document.where(key), "name exactly one backend, with its settings"))
        return None
    name, settings = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    schema = collect(problems, document, partial(registry.load, "backends", name), key)
    place = key if isinstance(entry, str) else (*key, name)
    known = schema and collect(problems, document, partial(check, schema, document, place, settings or {}), key)
    return BackendChoice(name, known) if known else None
