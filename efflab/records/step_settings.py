"""The settings of a step as records hold them: those of a section stand in it, or beside it as in earlier records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def side_by_side(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of sections beside the others: `{training: {epochs: 2}}` as `{epochs: 2}`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= value if isinstance(value, Mapping) else {name: value}
    return found
