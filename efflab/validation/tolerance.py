"""Tolerances as data: the first rule of a list that fits an operator, element type and backend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from efflab.config import Settings, check, read_yaml

SHIPPED = Path(__file__).with_name("tolerances.yaml")


class Rule(Settings):
    """One rule; without operators, dtypes or backends it fits all of them."""

    operators: list[str] | None = None
    dtypes: list[str] | None = None
    backends: list[str] | None = None
    rtol: Annotated[float, Field(ge=0, le=1)]
    atol: Annotated[float, Field(ge=0)]
    reason: Annotated[str, Field(min_length=3)]

    def fits(self, operator: str, dtype: str, backend: str) -> bool:
        """Say whether the rule is of this output."""
        pairs = ((self.operators, operator), (self.dtypes, dtype), (self.backends, backend))
        return all(listed is None or one in listed for listed, one in pairs)


class Rules(Settings):
    """A file of rules."""

    rules: list[Rule]


def rules_of(files: Sequence[Path]) -> tuple[Rule, ...]:
    """Return the rules of files, the first file's first, and then those that efflab ships."""
    return tuple(rule for path in (*files, SHIPPED) for rule in _read(path))


def rule_of(rules: Sequence[Rule], operator: str, dtype: str, backend: str) -> Rule:
    """Return the first rule that fits; an exact one where none does."""
    exact = Rule(rtol=0, atol=0, reason="no rule fits: exact")
    return next((rule for rule in rules if rule.fits(operator, dtype, backend)), exact)


@cache
def _read(path: Path) -> tuple[Rule, ...]:
    return tuple(check(Rules, read_yaml(path)).rules)
