"""Does a technique change the law itself? Its rows on several members of a family, against the dense members."""

from __future__ import annotations

from typing import Any

from efflab.comparison.columns import AXES
from efflab.comparison.shifts import Placed
from efflab.foundation.errors import RequestError
from efflab.frontier.fit import FEWEST
from efflab.frontier.flags import FlagKind
from efflab.frontier.law_change import MEANING, LawChange, law_change
from efflab.records.variant_name import variant_name
from efflab.reporting.section import Asked, Section, ends, tally
from efflab.statistics import holm

SHOWN = ("macs", "latency")


def law(asked: Asked) -> Section | None:
    """Return, for every technique on at least three members, whether its shift is parallel or the exponent changes."""
    refused: list[tuple[str, ...]] = []
    found: list[tuple[tuple[str, str, str], str, LawChange]] = []
    for (axis, *_), rows in _groups(asked.assessment.placed).items():
        if len({one.row.baseline for one in rows}) < FEWEST:
            continue
        family = rows[0].family
        dense = list(zip(family.compute.tolist(), family.error.tolist(), strict=True))
        variant = variant_name(rows[0].row.variant).on_any_baseline
        key = (variant, AXES[axis].words, rows[0].row.place.words if axis == "latency" else "all")
        uneven = any(one.row.shift(axis).has(FlagKind.NOT_MONOTONIC) for one in rows)
        try:
            change = law_change(
                dense, [(AXES[axis].of(one.row) or 0.0, one.row.quality.error.value) for one in rows], family.most
            )
            found.append((key, f" ({FlagKind.NOT_MONOTONIC.value})" if uneven else "", change))
        except RequestError as error:
            refused.append((*key, "", "", "", "", str(error)))
    if not found and not refused:
        return None
    corrected = holm([change.p_value for *_, change in found])
    table = [
        (*key, f"{change.dense:.3f}", f"{change.treated:.3f}", _gap(change), f"{p:.2g}", change.verdict(p) + note)
        for (key, note, change), p in zip(found, corrected, strict=True)
    ]
    data = tuple(
        {"variant": name, "axis": axis, "where": where, "members": change.members, "dense": change.dense,
         "treated": change.treated, "difference": ends(change.difference), "p_value": change.p_value,
         "p_corrected": p, "verdict": change.verdict(p)}
        for ((name, axis, where), _, change), p in zip(found, corrected, strict=True)
    )  # fmt: skip
    told = f"Of {len(data)} tests, corrected for their number: {tally(str(one['verdict']) for one in data)}."
    seen = dict.fromkeys(str(one["verdict"]) for one in data)
    meant = (f"{word.capitalize()}: {MEANING[word]}." for word in seen)
    return Section(
        "law", "Does the law itself change?", sentences=(told, *meant) if found else (),
        heads=("technique", "axis", "where", "b dense", "b treated", "difference [95 %]", "p, corrected", ""),
        table=(*table, *refused), data=data,
        notes=("b: exponent of error on compute; more negative is steeper. Analysis of covariance on log10 of both; a change is "
               "called where p, corrected by Holm's method, is below 0.05, and `parallel` only where the interval of this one "
               "test excludes a change of 20 % of the dense exponent.",),
    )  # fmt: skip


def _gap(change: LawChange) -> str:
    gap = change.difference
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def _groups(placed: list[Placed]) -> dict[Any, list[Placed]]:
    groups: dict[Any, dict[str, Placed]] = {}
    for one in placed:
        if one.row.role in ("variant", "control") and one.axis in SHOWN:
            row = one.row
            place = row.place if one.axis == "latency" else row.place.counted()
            key = (one.axis, row.family, place, row.role, one.steps)
            groups.setdefault(key, {}).setdefault(row.baseline, one)
    return {key: list(members.values()) for key, members in groups.items()}
