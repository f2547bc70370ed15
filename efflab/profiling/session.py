"""One start of a session: a process that is prepared, timed in blocks, and ended. It stands still while others run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from efflab.foundation.child import Child
from efflab.profiling import energy
from efflab.profiling.pace import ANSWER_TIMEOUT_S, MOST_SAMPLES, PATIENCE, THROUGHPUT_S, Budget, calls_a_block, enough
from efflab.profiling.session_server import whole_turns


@dataclass(frozen=True)
class LatencyJob:
    """A session to measure: an artefact's folder on a backend; `inputs` is an .npz of its inputs (arr_0, arr_1, ...).

    They are those of `batches` batches, one batch after the other, over which the calls go in turn.
    """

    label: str
    artefact: Path
    backend: str
    settings: dict[str, Any]
    inputs: Path
    batches: int = 1


@dataclass
class Started:
    """What is gathered of one start of a session; after a failure of its process every step does nothing."""

    job: LatencyJob
    threads: int
    process: Child
    enough: bool = False
    rounds_ms: list[list[float]] = field(default_factory=list)
    rate_per_s: float | None = None
    watts: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # what the process told of itself
    wall_s: float = 0.0  # of its blocks

    def prepare(self, budget: Budget) -> None:
        """Load and compile the artefact."""
        job = {"artefact": str(self.job.artefact), "inputs": str(self.job.inputs), "threads": self.threads}
        request = {**job, "backend": self.job.backend, "settings": self.job.settings, "batches": self.job.batches}
        self.facts.update(self._ask(request, budget.prepare_timeout_s, "preparing"))

    def warm_up(self, budget: Budget) -> None:
        """Call until times are steady."""
        self.facts.update(self._ask({"do": "warm_up"}, budget.prepare_timeout_s, "warming up"))

    def measure_block(self, budget: Budget) -> None:
        """Measure one round; a session of which enough is known only keeps its rounds level with the others'."""
        calls = self._whole(self._calls(budget))
        before = time.monotonic()
        answer = self._ask({"do": "block", "calls": calls}, self._limit_s(calls), "being timed")
        self.wall_s += time.monotonic() - before
        overhead_ns = self.facts.get("overhead_ns", 0.0)
        self.rounds_ms.append([round(max(0.0, ns - overhead_ns) / 1e6, 6) for ns in answer.get("samples_ns", ())])

    def goes_on(self, budget: Budget) -> bool:
        """Say whether more must be known of this start, and its budget is not spent."""
        if not self.enough:
            seen = self.samples_ms()
            self.enough = enough(seen, len(self.rounds_ms), budget.share(), self.job.batches, self.wall_s)
        return not self.enough and self.process.failure is None

    def measure_throughput(self) -> None:
        """Run batches back to back for a short while."""
        if self.process.failure:
            return
        calls = self._whole(max(3, min(MOST_SAMPLES, round(THROUGHPUT_S / max(self.call_s(), 1e-9)))))
        gpu = energy.is_nvidia(self.facts["device"])
        request = {"do": "throughput", "calls": calls}
        answer = self._ask(request, self._limit_s(calls), "being timed", self._note_watts if gpu else None)
        if answer.get("elapsed_ns"):
            self.rate_per_s = answer["calls"] * self.facts["batch_size"] / answer["elapsed_ns"] * 1e9

    def finish(self) -> None:
        """Ask for what the process knows at the end."""
        self.facts.update(self._ask({"do": "finish"}, ANSWER_TIMEOUT_S, "finishing"))

    def samples_ms(self) -> list[float]:
        """Return all times so far."""
        return [sample for block in self.rounds_ms for sample in block]

    def call_s(self) -> float:
        """Return the seconds of one call: the median, and over several batches the mean of each one's median."""
        samples, batches = self.samples_ms(), self.job.batches
        return fmean(median(samples[first::batches]) for first in range(batches)) / 1e3

    def _calls(self, budget: Budget) -> int:
        share, seen = budget.share(), self.samples_ms()
        if not self.rounds_ms:
            return calls_a_block(self.facts.get("median_ns", 0.0) / 1e9, share)
        last_s = median(self.rounds_ms[-1] or [0.0]) / 1e3
        if self.enough:
            return max(1, calls_a_block(last_s, share) // 8)
        return calls_a_block(last_s, share, len(self.rounds_ms), len(seen), sum(seen) / 1e3)

    def _ask(
        self, request: dict[str, Any], limit_s: float, doing: str, meanwhile: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """Let the process go on, ask it, and stop it again: its threads would spin on beside the next session."""
        self.process.go_on()
        try:
            return self.process.ask(request, limit_s, doing, meanwhile)
        finally:
            self.process.stop()

    def _note_watts(self) -> None:
        watts = energy.gpu_watts()
        if watts is not None:
            self.watts.append(watts)

    def _whole(self, calls: int) -> int:
        return whole_turns(calls, self.job.batches)

    def _limit_s(self, calls: int) -> float:
        return ANSWER_TIMEOUT_S + PATIENCE * calls * float(self.facts.get("median_ns", 0.0)) / 1e9
