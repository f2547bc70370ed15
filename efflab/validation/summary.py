"""Says what a validation found: counts, what is bad, the matrix of operators, what changed; and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from efflab.validation.record import SpeedRow, Validation
from efflab.validation.verdict import BAD, MEANING, Result, Verdict

RANK: dict[Verdict, int] = {
    "pass": 0, "skipped": 1, "unsupported": 2, "fell back": 3, "wrong": 4, "error": 4, "hang": 5, "crash": 5,
}  # fmt: skip
MOST_TOLD = 12


class Change(NamedTuple):
    """A case whose verdict is not what it was."""

    suite: str
    name: str
    before: Verdict
    now: Verdict
    reason: str

    @property
    def worse(self) -> bool:
        """Whether it got worse; from wrong to unsupported is better: a refusal misleads nobody."""
        return RANK[self.now] > RANK[self.before]


def counts(results: Iterable[Result]) -> dict[Verdict, int]:
    """Return how many cases have each verdict, in the order of their meaning."""
    found = Counter(result["verdict"] for result in results)
    return {verdict: found[verdict] for verdict in MEANING if found[verdict]}


def one_line(validation: Validation) -> str:
    """Return the verdict as a badge: `openvino: 1,532 of 1,888 pass, 12 wrong, 344 unsupported`."""
    results = validation["results"]
    if not results:
        return f"{validation['backend']}: no cases were asked for"
    found = counts(results)
    rest = ", ".join(f"{count:,} {verdict}" for verdict, count in found.items() if verdict != "pass")
    return f"{validation['backend']}: {found.get('pass', 0):,} of {len(results):,} pass{', ' if rest else ''}{rest}"


def changes(validation: Validation, before: Validation) -> list[Change]:
    """Return the cases of both validations whose verdicts differ, the worst first."""
    known = {(result["suite"], result["name"]): result for result in before["results"]}
    found = []
    for result in validation["results"]:
        old = known.get((result["suite"], result["name"]))
        if old and old["verdict"] != result["verdict"]:
            found.append(Change(result["suite"], result["name"], old["verdict"], result["verdict"], result["reason"]))
    return sorted(found, key=lambda one: (not one.worse, -RANK[one.now], one.suite, one.name))


def slower(validation: Validation, before: Validation) -> list[str]:
    """Say which models lost speed against the reference: the intervals of the two ratios do not touch."""
    known = {(row["model"], row["batch"]): row["ratio"] for row in before.get("speed", [])}
    told = []
    for row in validation["speed"]:
        old, now = known.get((row["model"], row["batch"])), row["ratio"]
        if old and now and now["high"] < old["low"]:
            told.append(
                f"{row['model']}, batch {row['batch']}: {now['value']:.2f}x the reference's speed, was {old['value']:.2f}x"
            )
    return told


def matrix(results: Sequence[Result]) -> list[tuple[str, str, str, dict[Verdict, int]]]:
    """Return (operator, element type, opsets, counts) of the operators suite."""
    cells: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result["suite"] == "operators" and result["operator"]:
            cells.setdefault((result["operator"], result["dtype"]), []).append(result)
    return [
        (operator, dtype, _opsets(found), counts(found)) for (operator, dtype), found in sorted(cells.items())
    ]  # fmt: skip


def _opsets(results: Iterable[Result]) -> str:
    seen = sorted({result["opset"] for result in results if result["opset"] is not None})
    return ", ".join(map(str, seen))


def failed(validation: Validation, before: Validation | None) -> bool:
    """Say whether a pipeline should stop: something is bad, or, with a validation to hold against, got worse."""
    if before is not None:
        return any(one.worse for one in changes(validation, before)) or bool(slower(validation, before))
    return any(result["verdict"] in BAD for result in validation["results"])


def lines(validation: Validation, before: Validation | None = None) -> list[str]:
    """Return the summary for a terminal."""
    told = [one_line(validation), ""]
    for suite in validation["suites"]:
        results = [result for result in validation["results"] if result["suite"] == suite]
        if results:
            told.append(f"{suite}: " + ", ".join(f"{count:,} {verdict}" for verdict, count in counts(results).items()))
            told += _told(results)
    told += [f"  located in {one['model']}: {one['words']}" for one in validation["located"]]
    if validation["speed"]:
        told.append(f"speed against {validation['reference']}:")
        told += [f"  {speed_words(row)}" for row in validation["speed"]]
    if validation["forecasts"]:
        told.append(
            "portability, on processors that add pairs of int8 products in 16 bits (x86 without VNNI), by emulation:"
        )
        told += [f"  {row['model']}: {row['words']}" for row in validation["forecasts"]]
    return told + (["", *change_lines(validation, before)] if before is not None else [])


def speed_words(row: SpeedRow) -> str:
    """Say one line of the speed suite."""
    what, ratio = f"{row['model']}, batch {row['batch']}", row["ratio"]
    if ratio is None:
        return f"{what}: {row['verdict']}"
    return (
        f"{what}: {row['latency_ms_p50']:.3g} ms, {ratio['value']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}] "
        f"the reference's speed, {row['verdict']}"
    )


def _told(results: Sequence[Result]) -> list[str]:
    bad = [result for result in results if result["verdict"] in BAD]
    told = [f"  {result['verdict']}: {result['name']}: {result['reason']}" for result in bad[:MOST_TOLD]]
    if len(bad) > MOST_TOLD:
        told.append(f"  and {len(bad) - MOST_TOLD} more; all stand in the report")
    skipped = Counter(result["reason"] for result in results if result["verdict"] == "skipped")
    return told + [
        f"  skipped: {count} x {reason}" if count > 1 else f"  skipped: {reason}" for reason, count in skipped.items()
    ]


def change_lines(validation: Validation, before: Validation) -> list[str]:
    """Return what got worse and better since another validation."""
    found = changes(validation, before)
    told = [
        f"against the earlier validation: {sum(one.worse for one in found)} worse, {sum(not one.worse for one in found)} better"
    ]
    for one in found:
        told.append(f"  {'worse' if one.worse else 'better'}: {one.name}: {one.before} -> {one.now}"
                    + (f": {one.reason}" if one.reason else ""))  # fmt: skip
    return told + [f"  slower: {line}" for line in slower(validation, before)]
