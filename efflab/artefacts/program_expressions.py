"""Expressions in torch.export files: PyTorch evaluates them as Python, so only plain arithmetic of sizes is let through."""

from __future__ import annotations

import ast
import re

LONGEST = 20_000  # letters of one expression
MOST_DIGITS = 20
MOST_POWER = 64  # of a power, whose base holds no power: else a short text would be a number that fills the memory
MOST_PRECISION = 200
SYMBOL = re.compile(r"[a-z]{1,3}\d{1,6}")  # as PyTorch names free sizes; it counts up to the number, so that is short
FLOAT = re.compile(r"-?\d{1,40}(\.\d{0,100})?(e[+-]?\d{1,3})?")
FUNCTIONS = {
    "Abs", "Add", "And", "CeilDiv", "CeilToInt", "CleanDiv", "Eq", "Equality", "FloatPow", "FloatTrueDiv", "FloorDiv",
    "FloorToInt", "Ge", "GreaterThan", "Gt", "Identity", "IntTrueDiv", "Integer", "IsNonOverlappingAndDenseIndicator", "LShift",
    "Le", "LessThan", "Lt", "Max", "Min", "Mod", "ModularIndexing", "Mul", "Ne", "Not", "Or", "Pow", "PowByNatural",
    "PythonMod", "RShift", "Rational", "RoundDecimal", "RoundToInt", "StrictGreaterThan", "StrictLessThan", "ToFloat",
    "TruncToFloat", "TruncToInt", "Unequality", "Where", "ceiling", "floor", "sqrt",
}  # fmt: skip
POWERS = {"FloatPow", "LShift", "Pow", "PowByNatural", "RShift"}  # calls whose result grows as a power does
CONSTANTS = {"false", "int_oo", "oo", "true"}
ASSUMPTIONS = {"finite", "integer", "negative", "nonnegative", "nonpositive", "nonzero", "positive", "real"}
GUARD_FUNCTIONS = {"abs", "bool", "float", "int", "max", "min"}  # guards are Python, and not sympy
LENGTHS = {"dim", "numel", "size", "storage_offset", "stride"}  # what a guard may ask an input
KEY = re.compile(r"[\w\-.@]{1,200}")  # of an input in a guard
OPERATIONS = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd, ast.Not, ast.Invert, ast.And,
    ast.Or, ast.BitAnd, ast.BitOr, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip


def plain_size(text: str) -> str:
    """Return the size that an expression gives, spelled anew; raise ValueError for anything but arithmetic of symbols."""
    return _spelled(text, guard=False)


def plain_guard(text: str) -> str:
    """Return a condition on the sizes of inputs, spelled anew; raise ValueError for anything else."""
    return _spelled(text, guard=True)


def _spelled(text: str, guard: bool) -> str:
    if len(text) > LONGEST:
        raise ValueError(f"has {len(text):,} letters, which is too long for a size")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        plain = _is_plain(tree.body, guard)
        spelled = ast.unparse(tree)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("is no expression") from error
    if not plain:
        raise ValueError("is not plain arithmetic of symbols, numbers and known functions")
    return spelled


def _is_plain(node: ast.AST, guard: bool) -> bool:
    match node:
        case ast.Constant(value):
            return _is_number(value)
        case ast.Name(name):
            return name in CONSTANTS or bool(SYMBOL.fullmatch(name))
        case ast.UnaryOp(op, operand):
            return isinstance(op, OPERATIONS) and _is_plain(operand, guard)
        case ast.BinOp(base, op, other):
            parts = isinstance(op, OPERATIONS) and _is_plain(base, guard) and _is_plain(other, guard)
            return parts and (not isinstance(op, ast.Pow) or _is_bounded(base, other))
        case ast.BoolOp(op, values):
            return isinstance(op, OPERATIONS) and all(_is_plain(one, guard) for one in values)
        case ast.Compare(left, ops, others):
            return all(isinstance(op, OPERATIONS) for op in ops) and all(
                _is_plain(one, guard) for one in (left, *others)
            )
        case ast.Call(ast.Name("Symbol"), [ast.Constant(str(name))], keywords):
            return bool(SYMBOL.fullmatch(name)) and all(map(_is_assumption, keywords))
        case ast.Call(
            ast.Name("Float"), [ast.Constant(str(number))], [ast.keyword("precision", ast.Constant(int(bits)))]
        ):
            return bool(FLOAT.fullmatch(number)) and 0 < bits <= MOST_PRECISION
        case ast.Call(ast.Name(name), args, []):
            known = name in FUNCTIONS or (guard and name in GUARD_FUNCTIONS)
            parts = known and all(_is_plain(one, guard) for one in args)
            return parts and (name not in POWERS or (len(args) == 2 and _is_bounded(*args)))
    return guard and _is_length(node)


def _is_assumption(keyword: ast.keyword) -> bool:
    return (
        keyword.arg in ASSUMPTIONS and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool)
    )


def _is_number(value: object) -> bool:
    if isinstance(value, bool | float):
        return True
    return isinstance(value, int) and value < 10**MOST_DIGITS


def _is_length(node: ast.AST) -> bool:
    """Say whether a part of a guard asks an input for its sizes: `L['x']`, `L['x'].size()`, `L['x'].size()[0]`."""
    match node:
        case ast.Name("L"):
            return True
        case ast.Subscript(value, ast.Constant(str(key))):
            return bool(KEY.fullmatch(key)) and _is_length(value)
        case ast.Subscript(value, ast.Constant(int())):
            return _is_length(value)
        case ast.Call(ast.Attribute(value, name), [], []):
            return name in LENGTHS and _is_length(value)
    return False


def _is_bounded(base: ast.AST, power: ast.AST) -> bool:
    """Say whether a power stays a number that fits into memory: its exponent is small, and its base holds no power."""
    return _is_small(power) and not any(_is_power(one) for one in ast.walk(base))


def _is_small(power: ast.AST) -> bool:
    match power:
        case ast.UnaryOp(ast.USub(), inner):
            return _is_small(inner)
        case ast.Constant(int() | float() as value):
            return abs(value) <= MOST_POWER
        case ast.Call(ast.Name("Integer" | "Rational"), args, []):
            return all(map(_is_small, args))
        case ast.Call(ast.Name("Float"), [ast.Constant(str(number))], _):
            return bool(FLOAT.fullmatch(number)) and abs(float(number)) <= MOST_POWER
    return False


def _is_power(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(_, ast.Pow(), _):
            return True
        case ast.Call(ast.Name(name), _, _):
            return name in POWERS
    return False
