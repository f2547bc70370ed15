"""What became of the stages of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from efflab.plan.stage_graph import Stage
from efflab.plan.stage_results import Made, Rung, Scored, StageResult, Timed, read_result
from efflab.plan.stage_specs import TimeInTurn
from efflab.records.store import Finished


@dataclass
class Outcomes:
    """Results of finished stages and the machines that made them, and the reasons of the others."""

    results: dict[str, StageResult] = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)  # stage -> (status, reason)
    paused: dict[str, Rung | None] = field(default_factory=dict)  # stage -> its training's worth, None if it waits
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)  # stage -> fingerprint of where it ended

    def take(self, stage: Stage, finished: Finished) -> None:
        """Note what the store holds of a stage."""
        self.results[stage.id] = read_result(stage.kind, finished.result)
        self.machines[stage.id] = finished.about.get("machine") or {}

    def made(self, stage_id: str) -> Made:
        """Return the result of a stage that made an artefact."""
        return cast(Made, self.results[stage_id])

    def scored(self, stage_id: str) -> Scored:
        """Return the result of a stage that scored one."""
        return cast(Scored, self.results[stage_id])

    def timed(self, stage_id: str) -> Timed:
        """Return the times of a group; none where it has not been measured."""
        return cast(Timed, self.results.get(stage_id) or Timed({}, {}))

    def lacking(self, stage_id: str, spec: TimeInTurn) -> set[str]:
        """Return the members of a group that have a model but no times; for one of them the whole group is measured."""
        result = self.timed(stage_id)
        absent = (label for label, (status, _) in result.reasons.items() if status == "unavailable")
        return {*self.with_model(spec)} - {*result.timings, *absent}

    def incomplete(self, stage: Stage) -> bool:
        """Say whether it is a group of which some member has no times, and will be measured again if it has a model."""
        if not isinstance(stage.spec, TimeInTurn):
            return False
        result = self.timed(stage.id)
        return any(
            one not in result.timings and result.reasons.get(one, ("",))[0] != "unavailable"
            for one in stage.spec.members
        )

    def with_model(self, spec: TimeInTurn) -> dict[str, str]:
        """Return the members of a group that have a model."""
        return {label: made for label, made in spec.members.items() if made in self.results}
