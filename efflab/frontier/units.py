"""Units behind the numbers of a table, and what the header of a column says of its unit."""

from __future__ import annotations

import re
from typing import NamedTuple

POWERS = {"": 0, "k": 3, "m": 6, "g": 9, "b": 9, "t": 12, "p": 15, "e": 18, "z": 21, "y": 24}
WORDS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
ALONE = "kKMGBTP"  # a small m can be milli, metre or minute; E alone a number cut short
BASES = {
    "flop": r"flops?",
    "mac": r"macs?|mult-?adds?|multiply-?adds?|fmas?|madds",
    "op": r"ops?",
    "param": r"params?|parameters?",
}
BASE = "|".join(f"(?P<{kind}>{form})" for kind, form in BASES.items())
UNIT = re.compile(rf"(?P<prefix>[kmgbtpezy]?)[ -]?(?:{BASE})", re.IGNORECASE)
UNCLEAR = re.compile(r"bops?|madds?", re.IGNORECASE)  # billions or bits; multiply-adds or millions
TEN_TO = re.compile(r"(?:\b10\s*(?:\^|\*\*)\s*|(?<![\d.])1e\+?)(\d{1,2})", re.IGNORECASE)
SUPERSCRIPTS = re.compile(r"10([⁰¹²³⁴-⁹]+)")


class Unit(NamedTuple):
    """A power of ten, None where nothing is said of it, and what is counted."""

    power: int | None
    base: str


def unit_of(text: str) -> Unit | None:
    """Return the unit of compute that a text is, `G` or `GFLOPs` or `million MACs`, None if it is none or not clear."""
    if len(text) == 1 and text in ALONE:
        return Unit(POWERS[text.lower()], "")
    word, _, rest = text.lower().partition(" ")
    if word.removesuffix("s") in WORDS:
        counted = unit_of(rest) if rest else Unit(0, "")
        return Unit(WORDS[word.removesuffix("s")], counted.base) if counted and counted.power == 0 else None
    found = UNIT.fullmatch(text)
    if not found or UNCLEAR.fullmatch(text):
        return None
    return Unit(POWERS[found["prefix"].lower()], next(kind for kind in BASES if found[kind]))


def header_words(name: str) -> list[str]:
    """Return the words of a column's name: `infer_gmacs`, `Params (M)` and `topError` have two each."""
    return re.findall(r"[^\W_]+|%", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def header_says_percent(name: str) -> bool:
    """Whether a column's name says that its numbers are in percent."""
    return any(word.lower() in ("%", "percent", "percentage", "pct", "perc") for word in header_words(name))


def header_unit(name: str) -> Unit:
    """Return what a column's name says of the unit: `gmacs` and `MACs (G)` mean giga and MACs, `compute` nothing."""
    words = header_words(name)
    units = [unit for word in words if (unit := unit_of(word))]
    powers = [unit.power for unit in units if unit.power]
    powers += [WORDS[word] for word in (one.lower().removesuffix("s") for one in words) if word in WORDS]
    last = words[-1].lower() if len(words) > 1 else ""
    powers += [POWERS[last]] if len(last) == 1 and last in POWERS else []
    powers += [int(power) for power in TEN_TO.findall(name)]
    powers += [int(power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789"))) for power in SUPERSCRIPTS.findall(name)]
    base = next((unit.base for unit in units if unit.base), "")
    return Unit(powers[0] if powers else None, base)


def of_compute(column: str, texts: list[str]) -> tuple[list[int], dict[int, str], str]:
    """Return each unit's power of ten, why it cannot be used, by index, and in words how the units are read.

    Where the header has the same prefix (`gmacs` and `1.5G`), the numbers are those of the header's unit. A header and a
    unit that contradict each other, and two things counted in one column (MACs and FLOPs), are refused.
    """
    header = header_unit(column)
    units = [unit_of(text) for text in texts]
    bases = [unit.base for unit in units if unit]
    wrong: dict[int, str] = {}
    for index, (text, unit) in enumerate(zip(texts, units, strict=True)):
        if unit is None or (
            text == "B" and {"byte", "bytes", "memory", "size"} & {w.lower() for w in header_words(column)}
        ):
            known = "K, M, G, T, P or B, FLOPs, MACs, ops or params"
            wrong[index] = (
                f"whose unit {text!r} is not clear; write {known}, or the number alone and its unit in the header"
            )
        elif unit.base != bases[0]:
            wrong[index] = f"but other rows count {bases[0] or 'without a name'}; write the same unit in all rows"
        elif header.base and unit.base and header.base != unit.base:
            wrong[index] = f"but the header {column!r} says {header.base}s; correct one of the two"
        elif header.power is not None and header.power != unit.power:
            wrong[index] = (
                f"but the header {column!r} says 10^{header.power}; write the numbers alone in the header's unit"
            )
    if wrong or header.power is not None:
        return [0] * len(texts), wrong, "the header's unit in its cells"
    return [unit.power or 0 for unit in units if unit], wrong, "units"
