"""Expressions over the columns of a row, for --where and --fail-if: comparisons, in, and / or / not, + - * /; nothing else.

What cannot be computed, as a value is missing (a failed row has no speed-up), is None: neither true nor false. A
comparison with None itself asks whether a value is missing.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from efflab.comparison.columns import ALIASES, COLUMNS, WORDS, YES_OR_NO, column_of, known
from efflab.foundation.errors import RequestError

LONGEST = 1000  # characters; deep nesting must not exhaust the stack
MOST_VALUES = 12  # listed of a column
MOST_NUMBER = 1e100

ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPARISONS: dict[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, listed: value in listed,
    ast.NotIn: lambda value, listed: value not in listed,
}


class Named(Protocol):
    """A row whose columns go by the names that users know."""

    def __getitem__(self, column: str, /) -> Any:
        """Return a column."""


Given = TypeVar("Given", bound=Named)


@dataclass(frozen=True)
class Condition:
    """A checked expression; called with a row it gives True, False, or None where it cannot be computed."""

    text: str
    tree: ast.expr

    def __call__(self, row: Named) -> bool | None:
        """Judge a row; raise RequestError where a word meets a number."""
        return _truth(_value(self.tree, row, self.text))

    def names(self) -> list[str]:
        """Return the columns of the expression."""
        return list(dict.fromkeys(_names(self.tree)))

    def missing(self, row: Named) -> list[str]:
        """Return the columns of the expression that have no value in this row."""
        return [name for name in self.names() if row[name] is None]

    def hints(self, rows: Iterable[Named]) -> list[str]:
        """Return a sentence for each comparison that holds for no row: what its column holds instead."""
        rows, found = list(rows), []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare) and not any(_truth(_value(node, row, self.text)) for row in rows):
                found += [_values_of(name, rows) for name in dict.fromkeys(_names(node))]
        return list(dict.fromkeys(found))


def condition(text: str, shares: bool = True) -> Condition:
    """Return the condition that `text` spells; raise RequestError for anything but an expression over columns.

    shares: quality and error are fractions, so that a number above 1 is a mistake; of a loss they can be any number.
    """
    if len(text) > LONGEST:
        raise RequestError(f"an expression is longer than {LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, text, ("share", "quality") if shares else ("share",))
        _check_truth(tree, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        hint = "; quote it as a whole, and words inside it too: 'backend == \"torch\"'"
        raise RequestError(f"not an expression: {text!r} ({what}){hint}") from error
    return Condition(text, tree)


def _check(node: ast.AST, text: str, fractions: Sequence[str]) -> None:
    """Refuse what is no expression over columns; columns of the kinds `fractions` are at most 1."""
    if isinstance(node, ast.Name):
        column_of(node.id, f" in {text!r}")
        return
    if isinstance(node, ast.Constant):
        if node.value is not None and not isinstance(node.value, (bool, int, float, str)):
            raise RequestError(f"{node.value!r} in {text!r} is no number, word, True, False or None")
        if isinstance(node.value, (int, float)) and abs(node.value) > MOST_NUMBER:
            raise RequestError(f"a number in {text!r:.60} is beyond {MOST_NUMBER:g}, and no column comes near that")
        return
    allowed = isinstance(node, (ast.BoolOp, ast.Compare))
    allowed |= isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.UAdd))
    allowed |= isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC
    lists: list[ast.expr] = []
    if isinstance(node, ast.Compare):
        lists = [
            side for op, side in zip(node.ops, node.comparators, strict=True) if isinstance(op, (ast.In, ast.NotIn))
        ]
        allowed &= all(type(op) in COMPARISONS for op in node.ops) and all(_constants(side) for side in lists)
        allowed &= not lists or len(node.ops) == 1
    if not allowed:
        raise RequestError(
            f"{ast.unparse(node)!r} in {text!r} is not allowed; columns, numbers, quoted words, == != < <= > >=, "
            "in ('a', 'b'), and or not, + - * / and brackets are"
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.right) in ("0", "0.0"):
        raise RequestError(f"{text!r} divides by zero")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and child not in lists:
            _check(child, text, fractions)
    if isinstance(node, ast.Compare):
        _check_values(node, text, fractions)


def _check_truth(node: ast.expr, text: str) -> None:
    """Refuse what is joined by and, or, not, or stands alone, and is neither a comparison nor a column of yes and no."""
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check_truth(part, text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_truth(node.operand, text)
    elif not isinstance(node, ast.Compare) and not (isinstance(node, ast.Name) and node.id in YES_OR_NO):
        told = ast.unparse(node)
        raise RequestError(f"{told!r} in {text!r} is no comparison; write for instance {told} == 1")


def _check_values(node: ast.Compare, text: str, fractions: Sequence[str]) -> None:
    """Refuse a comparison that can never hold: of a fraction with per cents, of a verdict with an unknown word."""
    sides = (node.left, *node.comparators)
    for one, other in (*pairwise(sides), *pairwise(sides[::-1])):
        if not isinstance(one, ast.Name):
            continue
        name = column_of(one.id)
        for constant in _constants(other):
            value = constant.value
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if COLUMNS[name].kind in fractions and number and value > 1:  # type: ignore[operator]
                raise RequestError(f"{one.id} is a fraction, shown as per cent: write {value / 100:g} for {value:g} % in {text!r}")  # type: ignore[operator,str-bytes-safe] # fmt: skip
            if name in WORDS and isinstance(value, str) and value not in WORDS[name]:
                raise RequestError(f"{one.id} is never {value!r} in {text!r}; {known(value, WORDS[name])}")


def _constants(node: ast.expr) -> list[ast.Constant]:
    """Return the constants of a list, or the one that stands there; empty for anything else."""
    listed = node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]
    constants = [
        one for one in listed if isinstance(one, ast.Constant) and isinstance(one.value, (bool, int, float, str))
    ]
    return constants if len(constants) == len(listed) else []


def _names(tree: ast.AST) -> Iterator[str]:
    return (ALIASES.get(node.id, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name))


def _truth(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _value(node: ast.expr, row: Named, text: str) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            value = row[ALIASES.get(node.id, node.id)]
            return None if isinstance(value, float) and math.isnan(value) else value
        case ast.BoolOp():
            # what decides wins over what is unknown: `slow or unknown` fails a gate, `not slow and unknown` does not
            decisive = isinstance(node.op, ast.Or)
            tests = [_truth(_value(child, row, text)) for child in node.values]
            return decisive if decisive in tests else None if None in tests else not decisive
        case ast.UnaryOp():
            operand = _value(node.operand, row, text)
            if isinstance(node.op, ast.Not):
                return None if operand is None else not operand
            return _numbers(lambda value, sign: value * sign, operand, -1 if isinstance(node.op, ast.USub) else 1, text)
        case ast.BinOp():
            left, right = _value(node.left, row, text), _value(node.right, row, text)
            return _numbers(ARITHMETIC[type(node.op)], left, right, text)
        case ast.Compare():
            return _compare(node, row, text)
    raise AssertionError(f"unchecked node {node!r}")


def _compare(node: ast.Compare, row: Named, text: str) -> bool | None:
    sides = (node.left, *node.comparators)
    asks_none = any(isinstance(child, ast.Constant) and child.value is None for child in sides)
    unknown = False
    for op, one, other in zip(node.ops, sides, sides[1:], strict=False):
        left = _value(one, row, text)
        if isinstance(op, (ast.In, ast.NotIn)):
            listed: Any = [constant.value for constant in _constants(other)]
            against = listed
        else:
            listed = _value(other, row, text)
            against = [listed]
        if (left is None or listed is None) and not (asks_none and isinstance(op, (ast.Eq, ast.NotEq))):
            unknown = True
            continue
        for value in against:
            if None not in (left, value) and isinstance(left, str) != isinstance(value, str):
                raise RequestError(f"{text!r} compares a word with a number: {left!r} and {value!r}")
        if not COMPARISONS[type(op)](left, listed):
            return False
    return None if unknown else True


def _numbers(operation: Callable[[Any, Any], Any], left: Any, right: Any, text: str) -> Any:
    for value in (left, right):
        if isinstance(value, str):
            raise RequestError(f"{text!r} calculates with a word: {value!r}")
    if left is None or right is None:
        return None
    try:
        value = operation(left, right)
        return value if math.isfinite(value) else None
    except (ZeroDivisionError, OverflowError):
        return None


def _values_of(name: str, rows: list[Named]) -> str:
    values = {row[name] for row in rows} - {None}
    if not values:
        return f"{name} has no value in any row"
    if not any(isinstance(value, float) for value in values):
        some = [repr(value) if isinstance(value, str) else str(value) for value in sorted(values)]
        more = f" and {len(some) - MOST_VALUES} more" if len(some) > MOST_VALUES else ""
        return f"{name} is {', '.join(some[:MOST_VALUES])}{more}"
    return f"{name} lies between {min(values):.4g} and {max(values):.4g}"


def sort_rows(rows: list[Given], column: str) -> list[Given]:
    """Return rows sorted by a column, descending with a leading `-`; rows without a value come last."""
    name = column_of(column.removeprefix("-"), " to sort by")
    filled = [row for row in rows if row[name] is not None]
    empty = [row for row in rows if row[name] is None]
    return sorted(filled, key=lambda row: row[name], reverse=column.startswith("-")) + empty
