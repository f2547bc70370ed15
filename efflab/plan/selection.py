"""What `--only` and `--force` select of a plan."""

from __future__ import annotations

from dataclasses import replace

from efflab.foundation.errors import RequestError, nearest
from efflab.plan.plan import Plan, Row
from efflab.records.variant_name import VariantName, variant_name


def narrowed(plan: Plan, part: Plan, finished: set[str]) -> Plan:
    """Return `plan` with only the stages of `part` to run; its other rows keep what is finished already.

    part: the plan of the chosen variants alone. A latency group that is finished for all variants stands for the
    smaller one of the chosen, since it holds their times and those of the others.
    """
    chosen = {(row.variant, row.seed, row.backend, row.further): row.latency for row in part.rows}
    whole = {group for group in finished if group in plan.stages and plan.stages[group].kind == "latency"}
    rows = []
    for row in plan.rows:
        smaller = chosen.get((row.variant, row.seed, row.backend, row.further), {})
        groups = {batch: group if group in whole else smaller.get(batch, group) for batch, group in row.latency.items()}
        rows.append(replace(row, latency=groups))
    used = {group for row in rows for group in row.latency.values()}
    stages = {one: stage for one, stage in part.stages.items() if stage.kind != "latency" or one in used}
    left_out = {one: stage for one, stage in plan.stages.items() if one not in stages}
    return Plan(plan.recipe, stages, tuple(rows), left_out)


def stages_to_force(plan: Plan, names: list[str]) -> set[str]:
    """Return the stages to do again: those of the named variants from their own first step on, or all."""
    if not names:
        return set(plan.stages)
    rows = [row for row in plan.rows if _names(row) & {*names}]
    missing = [name for name in names if not any(name in _names(row) for row in rows)]
    if missing:
        raise RequestError(
            f"unknown variant {missing[0]!r} in --force; {nearest(missing[0], {row.variant for row in plan.rows})}"
        )
    others = {stage for row in plan.rows if row not in rows for stage in row.made}
    forced = {stage for row in rows for stage in (*row.made, row.quality, *row.latency.values()) if stage}
    return forced - others


def _names(row: Row) -> set[str]:
    """Return what a row goes by: its own name, without its baseline's, and that of the variant in the recipe."""
    name = variant_name(row.variant)
    return {row.variant, name.on_any_baseline, str(VariantName(name.entry, control="" if name.sweep else name.control))}
