"""Which techniques only change a model's form, and which only prepare or repair, as they say themselves."""

from __future__ import annotations

from pathlib import Path

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Technique
from efflab.foundation import registry
from efflab.foundation.errors import RequestError


def converter(takes: Form, gives: Form) -> str:
    """Return the name of the technique that only turns the form `takes` into `gives`; raise RequestError if there is none."""
    # efflab's own come first, so that no plug-in changes what recipes mean that do not name it
    names = sorted(registry.names("techniques"), key=lambda name: registry.origin("techniques", name) != "efflab")
    for name in names:
        technique = _known(name) if _may_convert(name) else None
        if technique and technique.converts and (technique.takes, technique.gives) == (takes, gives):
            return name
    raise RequestError(f"no technique turns the form {takes!r} into {gives!r}")


def _may_convert(name: str) -> bool:
    """Say whether a technique's file speaks of converting: importing all of efflab's own would take a third of a plan."""
    source = registry.sources("techniques")[name]
    if not isinstance(source, Path) or registry.origin("techniques", name) != "efflab":
        return True
    return "converts" in source.read_text(encoding="utf-8")


def converts(name: str) -> bool:
    """Say whether a technique only changes the form; one that is not known here does not."""
    technique = _known(name)
    return bool(technique and technique.converts)


def supports(name: str) -> bool:
    """Say whether a technique only prepares or repairs, and so names no variant; one that is not known here does not."""
    technique = _known(name)
    return bool(technique and technique.supports)


def _known(name: str) -> type[Technique] | None:
    if name not in registry.sources("techniques"):  # such as one of an old study
        return None
    try:
        found: type[Technique] = registry.load("techniques", name)
    except RequestError:
        return None
    return found
