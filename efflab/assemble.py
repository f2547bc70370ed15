"""Makes the study: plan rows joined with what their stages gave, failed rows with their reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, cast

from efflab.environment import commit, fingerprint, machine_id
from efflab.plan import Plan, Row
from efflab.study import SCHEMA, Latency, Record, Study


@dataclass
class Outcomes:
    """Results of finished stages, and the reasons of the others."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)  # stage -> (status, reason)


def assemble(plan: Plan, outcomes: Outcomes) -> Study:
    """Make the study of what is known: a record for each row and batch, failed ones with their reason."""
    print_ = fingerprint()
    machine = machine_id(print_)
    records = [record for row in plan.rows for record in _records(plan, row, machine, outcomes)]
    owners = (*plan.recipe.baselines, *plan.recipe.family)
    return Study(
        schema=SCHEMA,
        name=plan.recipe.spec.name,
        recipe=plan.recipe.text,
        efflab=version("efflab"),
        commit=commit(),
        data={next(iter(owner.card.task)): owner.task.digest() for owner in owners},
        machines={machine: print_},
        records=records,
    )


def _records(plan: Plan, row: Row, machine: str, outcomes: Outcomes) -> list[Record]:
    measure = plan.recipe.spec.measure
    records = []
    for batch in measure.batch_sizes if row.latency else measure.batch_sizes[:1]:
        record = Record(
            variant=row.variant,
            role=row.role,
            of=row.of,
            parent=row.parent,
            baseline=row.baseline,
            family=row.family,
            steps=[{name: settings} for name, settings in row.steps],
            task=row.task,
            seed=row.seed,
            backend=row.backend,
            device=row.device,
            batch_size=batch,
            machine=machine,
            status="ok",
            reason="",
            margin=measure.margin,
            training=_training(plan, row),
            stages={"artefact": row.made[-1], "quality": row.quality or "", "latency": row.latency.get(batch, "")},
        )
        _fill(record, row, batch, outcomes)
        records.append(record)
    return records


def _fill(record: Record, row: Row, batch: int, outcomes: Outcomes) -> None:
    if row.misfit:
        record["status"], record["reason"] = "unavailable", row.misfit
        return
    for stage in (*row.made, row.quality):
        if stage in outcomes.failures:
            status, record["reason"] = outcomes.failures[stage]
            record["status"] = "unavailable" if status == "unavailable" else "failed"
            return
    if row.made[-1] not in outcomes.results or row.quality not in outcomes.results:
        record["status"], record["reason"] = "failed", "not run: the run was interrupted"
        return
    record["work"] = outcomes.results[row.made[-1]]["work"]
    record["quality"] = outcomes.results[row.quality]  # type: ignore[typeddict-item]
    steps = [outcomes.results[stage]["cost"] for stage in row.made[1:]]
    keys = ("training_macs", "seconds", "hardware_burden_flop")
    record["recovery"] = {key: sum(cost[key] for cost in steps) for key in keys}  # type: ignore[typeddict-item]
    group = row.latency.get(batch)
    if group:
        measured = outcomes.results.get(group, {"timings": {}, "reasons": {}})
        if row.variant in measured["timings"]:
            record["latency"] = cast(Latency, {**measured["timings"][row.variant], "group": group})
        else:
            interrupted = ("failed", "latency not measured: the run was interrupted")
            record["status"], record["reason"] = measured["reasons"].get(row.variant, interrupted)


def _training(plan: Plan, row: Row) -> Any:
    owners = (*plan.recipe.baselines, *plan.recipe.family)
    owner = next(owner for owner in owners if owner.name == row.baseline)
    weights = owner.weights(plan.stages[row.made[0]].spec["seed"])
    keys = ("training_macs", "seconds", "hardware_burden_flop")
    return {key: getattr(weights, key) if weights else 0.0 for key in keys}
