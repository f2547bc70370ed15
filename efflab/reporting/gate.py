"""Expressions over the columns of a row, for --where and --fail-if: comparisons, and / or / not, + - * /; nothing else.

A comparison with a value that is missing (a failed row has no speed-up) is false.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from typing import Any

from efflab.errors import RequestError, nearest

Row = dict[str, Any]
LONGEST = 1000  # characters; deep nesting must not exhaust the stack

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
}


def condition(text: str, columns: Iterable[str]) -> Callable[[Row], bool]:
    """Return the test that `text` spells; raise RequestError for anything but an expression over `columns`."""
    known = set(columns)
    if len(text) > LONGEST:
        raise RequestError(f"an expression is longer than {LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, known, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        hint = "; quote it as a whole, and words inside it too: 'backend == \"torch\"'"
        raise RequestError(f"not an expression: {text!r} ({what}){hint}") from error

    def test(row: Row) -> bool:
        return bool(_value(tree, row, text))

    return test


def _check(node: ast.AST, known: set[str], text: str) -> None:
    if isinstance(node, ast.Name):
        if node.id not in known:
            raise RequestError(f"unknown column {node.id!r} in {text!r}; {nearest(node.id, known)}")
        return
    if isinstance(node, ast.Constant):
        if node.value is not None and not isinstance(node.value, (bool, int, float, str)):
            raise RequestError(f"{node.value!r} in {text!r} is no number, word, True, False or None")
        return
    allowed = isinstance(node, (ast.BoolOp, ast.Compare))
    allowed |= isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.UAdd))
    allowed |= isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC
    if isinstance(node, ast.Compare):
        allowed &= all(type(op) in COMPARISONS for op in node.ops)
    if not allowed:
        raise RequestError(
            f"{ast.unparse(node)!r} in {text!r} is not allowed; columns, numbers, quoted words, == != < <= > >=, "
            "and or not, + - * / and brackets are"
        )
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child, known, text)


def _value(node: ast.expr, row: Row, text: str) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return row[node.id]
        case ast.BoolOp():
            tests = (bool(_value(child, row, text)) for child in node.values)
            return all(tests) if isinstance(node.op, ast.And) else any(tests)
        case ast.UnaryOp():
            operand = _value(node.operand, row, text)
            if isinstance(node.op, ast.Not):
                return not operand
            return _numbers(lambda value, sign: value * sign, operand, -1 if isinstance(node.op, ast.USub) else 1, text)
        case ast.BinOp():
            left, right = _value(node.left, row, text), _value(node.right, row, text)
            return _numbers(ARITHMETIC[type(node.op)], left, right, text)
        case ast.Compare():
            return _compare(node, row, text)
    raise AssertionError(f"unchecked node {node!r}")


def _compare(node: ast.Compare, row: Row, text: str) -> bool:
    sides = (node.left, *node.comparators)
    values = [_value(child, row, text) for child in sides]
    asks_none = any(isinstance(child, ast.Constant) and child.value is None for child in sides)
    for op, left, right in zip(node.ops, values, values[1:], strict=False):
        if left is None or right is None:
            if not (asks_none and isinstance(op, (ast.Eq, ast.NotEq))):
                return False
        elif isinstance(left, str) != isinstance(right, str):
            raise RequestError(f"{text!r} compares a word with a number: {left!r} and {right!r}")
        if not COMPARISONS[type(op)](left, right):
            return False
    return True


def _numbers(operation: Callable[[Any, Any], Any], left: Any, right: Any, text: str) -> Any:
    for value in (left, right):
        if isinstance(value, str):
            raise RequestError(f"{text!r} calculates with a word: {value!r}")
    if left is None or right is None:
        return None
    try:
        return operation(left, right)
    except (ZeroDivisionError, OverflowError):
        return None


def sort_rows(rows: list[Row], column: str) -> list[Row]:
    """Return rows sorted by a column, descending with a leading `-`; rows without a value come last."""
    name = column.removeprefix("-")
    if rows and name not in rows[0]:
        raise RequestError(f"unknown column {name!r} to sort by; {nearest(name, rows[0])}")
    filled = [row for row in rows if row[name] is not None]
    empty = [row for row in rows if row[name] is None]
    return sorted(filled, key=lambda row: row[name], reverse=column.startswith("-")) + empty
