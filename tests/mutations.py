"""Spoils files as strangers and accidents do: by chance, but the same way for the same seed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

# what stands in the place of a value of JSON, and of a scalar of YAML
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, -0.25, 2**63, 10**400, 1e300, float("nan"), float("inf"), "", "x", "1", "\0", "\ud800",
    "<script>", "\x1b[2J", "../../x", "=1+1", [], [[]], {}, {"a": {}}, [None], ["x"], [1, "x"],
]  # fmt: skip
SCALARS = [
    "null", "yes", "~", "0", "-1", "1.5", "0x10", "0xffffffffffffffffffffffff", "010", "1:30", "1:30:00.5", ".inf", "-.inf",
    ".nan", "1.0e+999", "9" * 400, "9" * 5000, "2001-01-01", "2001-13-45", "2001-01-01 10:00:00", '"a\\0b"', '"\\ud800"',
    '"\\e[2J"', "!!binary aGk=", "!!int x", "!!timestamp x", "!!bool x", "!!python/object:os.system {}", "!!set {a, b}",
    "&a [*a]", "*a", "[]", "{}", "[[[[]]]]", "{a: {b: {c: 1}}}", "", "'", "|", "? x", "../../x", "[" * 60, "{<<: {a: 1}}",
]  # fmt: skip
BYTES = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\t",
    b"\n",
    b'"',
    b"{",
    b"[" * 3000,
    b"}",
    b"]",
    b",",
    b":",
    b"e999",
    b"-",
    b"\x1b",
]

Change = Callable[[bytes, random.Random], bytes]


def spoilt_bytes(content: bytes, chance: random.Random) -> bytes:
    """Cut, insert, flip, repeat or leave out some bytes."""
    at, more = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return chance.choice(
        [
            lambda: content[:at],
            lambda: content[:at] + chance.choice(BYTES) + content[at:],
            lambda: content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :],
            lambda: content[:at] + content[more:],
            lambda: content[:more] + content[at:],
        ]
    )()


def spoilt_lines(content: bytes, chance: random.Random) -> bytes:
    """Leave out, repeat or exchange lines."""
    lines = content.splitlines(keepends=True)
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    if chance.random() < 0.5:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one : one + 1] = [lines[one]] * chance.choice([0, 2])
    return b"".join(lines)


def spoilt_scalar(content: bytes, chance: random.Random) -> bytes:
    """Put another scalar in the place of one of a YAML file."""
    found = list(re.finditer(rb"(?<=[:\[,-] )[^\s,\]}{\[]+", content))
    one = chance.choice(found)
    return content[: one.start()] + chance.choice(SCALARS).encode() + content[one.end() :]


def spoilt_value(content: bytes, chance: random.Random) -> bytes:
    """Change a value of JSON: another one in its place, none, a repeated one, or a number that is not what it was."""
    data = json.loads(content)
    place, key = chance.choice(list(_places(data)))
    old = place[key]
    numbers = [old * 10, old + 1, -old, old / 3] if type(old) in (int, float) else []
    kind = chance.randrange(6 if numbers else 3)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, list):
        place.insert(key, old)
    elif kind <= 2:
        place[key] = chance.choice(VALUES)
    else:
        place[key] = chance.choice(numbers)
    return json.dumps(data).encode()


def spoilt_line_of_json(content: bytes, chance: random.Random) -> bytes:
    """Change a value in one line of a file of JSON lines."""
    lines = content.splitlines()
    at = chance.randrange(len(lines))
    lines[at] = spoilt_value(lines[at], chance)
    return b"\n".join(lines) + b"\n"


def spoilt_cell(content: bytes, chance: random.Random) -> bytes:
    """Put something else in the place of one cell of a table."""
    lines = content.splitlines()
    at = chance.randrange(len(lines))
    cells = lines[at].split(b",")
    cells[chance.randrange(len(cells))] = chance.choice(SCALARS).encode()
    return b"\n".join([*lines[:at], b",".join(cells), *lines[at + 1 :]]) + b"\n"


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    for key in data if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from _places(data[key])
