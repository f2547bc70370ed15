"""Holds a validation against an earlier one: what got worse, better or slower, and what cannot be compared."""

from __future__ import annotations

from typing import NamedTuple

from efflab.validation.record import Validation
from efflab.validation.verdict import Verdict

RANK: dict[Verdict, int] = {
    "pass": 0, "skipped": 1, "unsupported": 2, "fell back": 3, "wrong": 4, "error": 4, "hang": 5, "crash": 5,
}  # fmt: skip
MOST_TOLD = 40  # changes on a terminal; the page and the JUnit XML hold all


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

    def words(self) -> str:
        """Say it in one line."""
        told = f"{'worse' if self.worse else 'better'}: {self.name}: {self.before} -> {self.now}"
        return told + (f": {self.reason}" if self.reason else "")


def changes(validation: Validation, before: Validation) -> list[Change]:
    """Return the cases of both validations whose verdicts differ, the worst first."""
    known = {(result["suite"], result["name"]): result for result in before["results"]}
    found = []
    for result in validation["results"]:
        old = known.get((result["suite"], result["name"]))
        if old and old["verdict"] != result["verdict"]:
            found.append(Change(result["suite"], result["name"], old["verdict"], result["verdict"], result["reason"]))
    return sorted(found, key=lambda one: (not one.worse, -RANK[one.now], one.suite, one.name))


def judged(validation: Validation, before: Validation) -> int:
    """Return how many cases and speeds stand in both: a gate that judged nothing must not be green."""
    known = {(result["suite"], result["name"]) for result in before["results"]}
    timed = {(row["model"], row["batch"]) for row in before["speed"] if row["ratio"]} if speeds_compare(
        validation, before) else set()  # fmt: skip
    return sum((result["suite"], result["name"]) in known for result in validation["results"]) + sum(
        (row["model"], row["batch"]) in timed and row["ratio"] is not None for row in validation["speed"]
    )


def speeds_compare(validation: Validation, before: Validation) -> bool:
    """Say whether ratios of speed mean the same in both: one reference, one processor."""
    return (validation["reference"], validation["machine"].get("cpu")) == (
        before["reference"],
        before["machine"].get("cpu"),
    )


def slower(validation: Validation, before: Validation) -> list[str]:
    """Say which models lost speed against the reference: the intervals of the two ratios do not touch."""
    if not speeds_compare(validation, before):
        return []
    known = {(row["model"], row["batch"]): row["ratio"] for row in before["speed"]}
    told = []
    for row in validation["speed"]:
        old, now = known.get((row["model"], row["batch"])), row["ratio"]
        if old and now and not now["high"] >= old["low"]:  # what is no number is no success
            told.append(
                f"{row['model']}, batch {row['batch']}: {now['value']:.2f}x the reference's speed, was {old['value']:.2f}x"
            )
    return told


def got_worse(validation: Validation, before: Validation) -> bool:
    """Say whether a pipeline should stop: a case is worse, a model slower, or nothing at all was compared."""
    worse = any(one.worse for one in changes(validation, before))
    return worse or bool(slower(validation, before)) or not judged(validation, before)


def change_lines(validation: Validation, before: Validation) -> list[str]:
    """Return what got worse and better since another validation, one sentence a line."""
    found, slow, common = changes(validation, before), slower(validation, before), judged(validation, before)
    worse = sum(one.worse for one in found)
    told = [
        f"against the earlier validation: {worse} worse, {len(found) - worse} better, {len(slow)} slower, of {common:,} in both"
    ]
    if not common:
        told = ["against the earlier validation: no case stands in both, so nothing was judged; that counts as worse"]
    told += _differences(validation, before)
    told += [f"  {one.words()}" for one in found[:MOST_TOLD]]
    if len(found) > MOST_TOLD:
        told.append(f"  and {len(found) - MOST_TOLD} more; all stand in the report")
    return told + [f"  slower: {line}" for line in slow]


def _differences(validation: Validation, before: Validation) -> list[str]:
    """Say what else is not as it was: other questions, settings, machine, or cases that are gone."""
    told = [
        f"  note: the {what} was {before[key] or 'none'}, and is {validation[key] or 'none'}"  # type: ignore[literal-required]
        for what, key in (("backend", "backend"), ("setting", "settings"), ("reference of speed", "reference"))
        if before[key] != validation[key]  # type: ignore[literal-required]
    ]
    if not speeds_compare(validation, before) and validation["speed"] and before["speed"]:
        told.append("  note: speeds are not compared: another reference or another processor")
    now = {(result["suite"], result["name"]) for result in validation["results"]}
    gone = [r for r in before["results"] if r["suite"] in validation["suites"] and (r["suite"], r["name"]) not in now]
    if gone:
        told.append(f"  note: {len(gone):,} cases of then were not asked for now, such as {gone[0]['name']}")
    return told
