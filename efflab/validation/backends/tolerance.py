"""Tolerances as data: the first rule of a list that fits an operator, element type and backend."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from efflab.foundation.config import Settings, check, read_yaml
from efflab.foundation.errors import Problem, RequestError

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
    """Return the rules of files, the first file's first, and then those that efflab ships.

    Raises RequestError for rules of operators or element types that there are not: they would fit nothing.
    """
    return tuple(rule for path in (*files, SHIPPED) for rule in _read(path))


def rule_of(rules: Sequence[Rule], operator: str, dtype: str, backend: str) -> Rule:
    """Return the first rule that fits; an exact one where none does."""
    exact = Rule(rtol=0, atol=0, reason="no rule fits: exact")
    return next((rule for rule in rules if rule.fits(operator, dtype, backend)), exact)


@cache
def _read(path: Path) -> tuple[Rule, ...]:
    document = read_yaml(path)
    rules = tuple(check(Rules, document).rules)
    known = {"operators": _operators(), "dtypes": _dtypes()}  # a rule may be of a backend that is not here
    problems = [
        Problem(document.where(("rules", number, key)), f"unknown {name!r}; {_near(name, names)}")
        for number, rule in enumerate(rules)
        for key, names in known.items()
        for name in getattr(rule, key) or ()
        if name not in names
    ]
    if problems:
        raise RequestError(problems)
    return rules


def _near(name: str, names: frozenset[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "there is nothing like it"


@cache
def _operators() -> frozenset[str]:
    import onnx

    return frozenset({schema.name for schema in onnx.defs.get_all_schemas()} | {"several"})


@cache
def _dtypes() -> frozenset[str]:
    import numpy as np
    import onnx

    codes = (code for name, code in onnx.TensorProto.DataType.items() if name != "UNDEFINED")
    return frozenset(str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))) for code in codes)
