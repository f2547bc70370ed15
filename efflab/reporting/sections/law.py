"""Does a technique change the law itself? Its rows on several members of a family, against the dense members."""

from __future__ import annotations

from typing import Any

from efflab.errors import RequestError
from efflab.frontier.change import law_change
from efflab.frontier.fit import FEWEST
from efflab.reporting.columns import AXES
from efflab.reporting.section import Asked, Section, ends, place, tally
from efflab.reporting.standing import NOT_MONOTONIC, Placed

SHOWN = ("macs", "latency")


def law(asked: Asked) -> Section | None:
    """Return, for every technique on at least three members, whether its shift is parallel or the exponent changes."""
    table, data = [], []
    for (axis, *_), rows in _groups(asked.assessment.placed).items():
        if len({one.row["baseline"] for one in rows}) < FEWEST:
            continue
        family, column = rows[0].family, AXES[axis].column
        dense = list(zip(family.compute.tolist(), family.error.tolist(), strict=True))
        name, where = rows[0].row["variant"].split("@")[0], place(rows[0].row) if axis == "latency" else "all"
        try:
            change = law_change(dense, [(one.row[column], one.row["error"]) for one in rows])
        except RequestError as refused:
            table.append((name, AXES[axis].words, where, "", "", "", str(refused)))
            continue
        words = change.words
        if any(NOT_MONOTONIC in (one.row[f"shift_{axis}_flags"] or "") for one in rows):
            words += f" ({NOT_MONOTONIC})"
        data.append(
            {"variant": name, "axis": axis, "where": where, "members": change.members, "dense": change.dense,
             "treated": change.treated, "difference": ends(change.difference), "p_value": change.p_value,
             "verdict": change.verdict}
        )  # fmt: skip
        gap = change.difference
        table.append(
            (name, AXES[axis].words, where, f"{change.dense:.3f}", f"{change.treated:.3f}",
             f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]", words)
        )  # fmt: skip
    if not table:
        return None
    told = tally(one["verdict"] for one in data)
    sentence = f"Of {len(data)} tests: {told}; chance alone would call about {0.05 * len(data):.1f} of them a change."
    return Section(
        "law", "Does the law itself change?", sentences=(sentence,) if data else (),
        heads=("technique", "axis", "where", "b dense", "b treated", "difference [95 %]", ""),
        table=tuple(table), data=tuple(data),
        notes=("b: exponent of error on compute; more negative is steeper. Analysis of covariance on log10 of both; "
               "`parallel` is said only where the interval excludes a change of 20 % of the dense exponent.",),
    )  # fmt: skip


def _groups(placed: list[Placed]) -> dict[Any, list[Placed]]:
    groups: dict[Any, dict[str, Placed]] = {}
    for one in placed:
        if one.row["role"] in ("variant", "control") and one.axis in SHOWN:
            row = one.row
            where = (row["backend"], row["device"], row["batch_size"]) if one.axis == "latency" else ()
            key = (one.axis, row["study"], row["family"], row["task"], row["machine"], *where, row["role"], one.steps)
            groups.setdefault(key, {}).setdefault(row["baseline"], one)
    return {key: list(members.values()) for key, members in groups.items()}
