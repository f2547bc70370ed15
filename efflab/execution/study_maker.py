"""Makes the study: plan rows joined with what their stages gave; failed rows have a reason, rows not run yet no record."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import Any, cast

from efflab.execution.outcomes import Outcomes
from efflab.foundation.errors import Status
from efflab.foundation.machine import commit, fingerprint, machine_id
from efflab.plan.plan import Plan, Row
from efflab.plan.stage_specs import LoadBaseline, TaskRef
from efflab.recipe.search_space import size
from efflab.records.cost import CostRecord, less, summed
from efflab.records.record import Record, keeps_promise
from efflab.records.study import SCHEMA, Machine, Study


def assemble(plan: Plan, outcomes: Outcomes) -> Study:
    """Make the study of what is known: a record for each row and batch that was run, failed ones with their reason."""
    machines = _Machines(plan, outcomes)
    records = [record for row in plan.rows for record in _records(plan, row, machines, outcomes)]
    _charge_search(plan, records, outcomes)
    study = Study(
        schema=SCHEMA,
        name=plan.recipe.spec.name,
        recipe=plan.recipe.text,
        efflab=version("efflab"),
        commit=commit(),
        data={task.name: task.digest for task in _tasks(plan)},
        machines=cast("dict[str, Machine]", machines.named),
        records=records,
    )
    search, found = plan.recipe.search, plan.recipe.found
    if search and found:
        study["search"] = {
            "minimize": list(search.goal.minimize),
            "where": [str(bound) for bound in search.goal.bounds],
            "backend": search.backend.label,
            "batch_size": search.batch_size,
            "points": size(search.space) if size(search.space) != math.inf else None,
            "cost": found.cost,
            "found": dict(found.numbers),
            "front": list(found.front),
            "trials": list(found.trials),
        }
    return study


class _Machines:
    """Names the machines of a plan's rows, and keeps the fingerprints of those that it named.

    A row is of the machine that timed it. A later seed is timed nowhere: it belongs to the row that its first one has.
    """

    def __init__(self, plan: Plan, outcomes: Outcomes):
        here = fingerprint()
        self.outcomes, self.here = outcomes, (machine_id(here), here)
        self.named: dict[str, dict[str, Any]] = {}
        self.groups = {
            (row.variant, row.backend): row.latency for row in reversed(plan.rows) if row.latency and not row.further
        }

    def of(self, row: Row, batch: int) -> str:
        """Return the id of the machine that made a row's numbers; the driver's where there are none."""
        group = self.groups.get((row.variant, row.backend), {}).get(batch)
        made = () if row.misfit else (group, row.quality)
        print_ = next(filter(None, (self.outcomes.machines.get(one or "") for one in made)), None)
        name, print_ = (machine_id(print_), print_) if print_ else self.here
        self.named.setdefault(name, print_)
        return name


def _tasks(plan: Plan) -> list[TaskRef]:
    """Return the tasks that stages name: name, settings, and the digest that the data had when the plan was made."""
    stages = (*plan.stages.values(), *plan.left_out.values())
    return [stage.spec.task for stage in stages if isinstance(stage.spec, LoadBaseline)]


def _charge_search(plan: Plan, records: list[Record], outcomes: Outcomes) -> None:
    """Add to what a search found the cost of all that it tried beside: the winner was not known before."""
    search, found = plan.recipe.search, plan.recipe.found
    if search is None or found is None:
        return
    for name in found.numbers:
        own = [row for row in plan.rows if row.variant == name]
        row = next((one for one in own if one.seed == search.spec.seed), own[0] if own else None)
        if row is None:
            continue
        steps = (outcomes.made(stage).cost for stage in row.made[1:] if stage in outcomes.results)
        spent = summed([*steps, _training(plan, row)])
        beside = less(found.cost, spent)
        for record in records:
            if record["variant"] == name and "recovery" in record:
                record["recovery"] = summed([record["recovery"], beside])


def _records(plan: Plan, row: Row, machines: _Machines, outcomes: Outcomes) -> list[Record]:
    """Return the records of a row, one a batch size; none yet where it has not been run to its end."""
    measure = plan.recipe.spec.measure
    records = []
    for batch in row.latency or measure.batch_sizes[:1]:
        status, reason, measured = _ending(row, batch, outcomes)
        if status is None:
            continue
        record: dict[str, Any] = {
            "variant": row.variant,
            "role": row.role,
            "of": row.of,
            "parent": row.parent,
            "baseline": row.baseline,
            "family": row.family,
            "steps": [{name: settings} for name, settings in row.steps],
            "task": row.task,
            "seed": row.seed,
            "backend": row.backend,
            "device": row.device,
            "batch_size": batch,
            "machine": machines.of(row, batch),
            "status": status,
            "reason": reason,
            "margin": measure.margin,
            "training": _training(plan, row),
            "stages": {"artefact": row.made[-1], "quality": row.quality or "", "latency": row.latency.get(batch, "")},
            **measured,
        }
        if settings := plan.owner(row).card.task[row.task]:
            record["task_settings"] = settings
        if row.trained_on:
            record["trained_on"] = row.trained_on
        promise = plan.owner(row).card.promise
        if promise and not row.steps:
            record["promised"] = {"value": promise.value, "tolerance": promise.tolerance}
        records.append(cast(Record, record))
    return records


def _ending(row: Row, batch: int, outcomes: Outcomes) -> tuple[Status | None, str, dict[str, Any]]:
    """Return how a row ended at a batch size (None: it has not), the reason, and what was measured until then."""
    if row.misfit:
        return "unavailable", row.misfit, {}
    for stage in (*row.made, row.quality):
        if stage in outcomes.failures:
            status, reason = outcomes.failures[stage]
            return "unavailable" if status == "unavailable" else "failed", reason, {}
    if row.quality is None or any(stage not in outcomes.results for stage in (*row.made, row.quality)):
        return None, "", {}
    made = [outcomes.made(stage) for stage in row.made]
    measured: dict[str, Any] = {
        "work": made[-1].work,
        "quality": outcomes.scored(row.quality).quality,
        "recovery": summed(one.cost for one in made[1:]),
    }
    fidelity = [one.fidelity for one in made[1:] if one.fidelity]
    if fidelity:
        measured["fidelity"] = fidelity
    group = row.latency.get(batch)
    if group is None:
        return "ok", "", measured
    times = outcomes.timed(group)
    if row.variant in times.timings:
        return "ok", "", measured | {"latency": {**times.timings[row.variant], "group": group}}
    if row.variant in times.reasons:
        return *times.reasons[row.variant], measured
    if group in outcomes.failures:
        status, reason = outcomes.failures[group]
        return "unavailable" if status == "unavailable" else "failed", reason, measured
    return None, "", {}


def broken_promises(study: Study) -> list[str]:
    """Say in a sentence each which dense models scored otherwise than their cards promise, and where."""
    sentences = []
    for record in study["records"]:
        if keeps_promise(record) is False:
            promised, quality = record["promised"], record["quality"]
            sentences.append(
                f"{record['variant']} s{record['seed']} scores {quality['value']:.4f} on {record['backend']}; "
                f"its card promises {promised['value']:.4f} within {promised['tolerance']:.4f}"
            )
    return list(dict.fromkeys(sentences))


def _training(plan: Plan, row: Row) -> CostRecord:
    made = plan.stages.get(row.made[0]) or plan.left_out[row.made[0]]
    return plan.owner(row).training_cost(made.spec.weights_seed if isinstance(made.spec, LoadBaseline) else 0)
