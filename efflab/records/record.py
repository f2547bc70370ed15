"""One row of measurement, and its parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from efflab.foundation.errors import Status
from efflab.records.cost import CostRecord, Number

SAME_QUALITY = 1e-4  # how far the mean of scores kept as float32 may lie from the quality that was worked out of them


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Round = Annotated[list[Number], Field(min_length=1)]  # times of calls that followed each other

Role = Literal[
    "baseline", "repeat", "variant", "control", "dense"
]  # repeat = the A/A row; dense = other family members


class CostGroup(TypedDict):
    """Validation examples that cost alike, one by one, in a model whose work depends on its input."""

    macs: Whole  # of one example, their mean
    share: Share  # of the examples
    quality: float


class _WorkByInput(TypedDict, total=False):
    by_input: list[CostGroup]  # the cheapest first; the sums are then means over these examples


class Work(_WorkByInput):
    """The MAC ledger of one forward pass of one example."""

    macs: Whole
    effective_macs: Whole
    bit_operations: Whole
    params: Whole
    nonzero_params: Whole
    artefact_bytes: Whole
    coverage: Share  # share of compute-bearing operators that had a formula
    uncounted: dict[str, Whole]  # the others: operator -> occurrences


class _QualityOfMetric(TypedDict, total=False):
    error: Number  # that goes with the value: 0 is the best
    error_rule: str  # how it follows, see efflab.records.quality; "": only the task can say it
    unit: str  # of differences and margins: points (hundredths), or the metric's own
    others: dict[str, float]  # the task's further metrics


class Quality(_QualityOfMetric):
    """The test-split score on this record's backend; without an error, as in older studies, it is of a share."""

    metric: str
    value: float
    scores: dict[str, Any]  # per-example scores, see `pack_scores`


class _LatencyOverInputs(TypedDict, total=False):
    starts: Annotated[
        list[Count], Field(min_length=1)
    ]  # rounds in each start of the session; absent, as in older studies: one
    inputs: Count  # different batches that the calls went over in turn, in whole cycles; absent: one
    examples: Count  # different examples of which a batch is made, where it repeats them; absent: as many as its size


class Latency(_LatencyOverInputs):
    """Raw times of one session, measured in rounds interleaved with the sessions of its group."""

    rounds_ms: Annotated[
        list[Round], Field(min_length=1)
    ]  # one list a round; round i of all sessions of a group ran side by side
    overhead_us: float  # the harness's own time per call, already subtracted
    warmup_runs: Whole
    prepare_s: Number
    throughput_per_s: Number | None
    peak_memory_bytes: Whole | None
    energy_j: Number | None
    energy_method: str  # "measured: RAPL", or "estimate: ..."
    group: str  # sessions of one group are comparable pairwise
    quiet: bool
    threads: Count


class Promised(TypedDict):
    """The quality that a dense model's card promises, and how far a score may lie from it."""

    value: float
    tolerance: Number


class Fidelity(TypedDict):
    """What a step did to the outputs on real examples: no promise of quality, but a check that nothing is broken."""

    sqnr_db: float | None  # signal over error of the scored output against the step's input, at most 200: equal
    agreement: (
        float | None
    )  # share of examples whose highest output stayed the highest; None for outputs without classes
    examples: Whole
    warnings: list[str]  # sentences that belong beside the row


class StepFidelity(Fidelity):
    """The same in a record: of which technique, and what else its reader should know."""

    technique: str
    notes: list[str]


class Record(TypedDict):
    """One measured (or failed) row."""

    variant: Annotated[str, Field(min_length=1)]
    role: Role
    of: str | None  # what it must be compared with: the baseline's name (None for baseline and dense rows)
    parent: str | None
    steps: list[dict[str, dict[str, Any]]]  # [{technique: settings}, ...] from the baseline on
    baseline: str  # card
    family: str | None
    task: str
    task_settings: NotRequired[dict[str, Any]]  # as in the card; absent where there are none, and in older studies
    seed: Whole
    backend: Annotated[str, Field(min_length=1)]  # as in the recipe, e.g. "openvino[precision=bf16]"
    device: str
    batch_size: Count
    machine: str  # key of the study's `machines`
    status: Status
    reason: str  # empty when ok; else one sentence
    work: NotRequired[Work]
    quality: NotRequired[Quality]
    latency: NotRequired[Latency]  # absent for seeds after the first
    recovery: NotRequired[CostRecord]  # the steps' own work, the baseline's training not included
    training: NotRequired[CostRecord]  # the baseline's (or dense member's) training
    promised: NotRequired[Promised]  # dense rows whose card promises a quality
    margin: NotRequired[
        Annotated[float, Field(gt=0, lt=1)]
    ]  # non-inferiority margin, as a share of the baseline's metric, fixed in the recipe
    trained_on: NotRequired[
        str
    ]  # the row of the baseline with this one's training and nothing else; its own name where it is that
    stages: NotRequired[dict[str, str]]
    fidelity: NotRequired[list[StepFidelity]]  # one a step; absent in older studies


def repeats(examples: int) -> str:
    """Say in words that a batch is larger than what it is made of."""
    return f"a batch repeats the {examples:,} examples of the validation split, which has no more"


def keeps_promise(record: Record) -> bool | None:
    """Say whether a dense model's score lies within its card's promise; None where nothing was promised or scored."""
    if "promised" not in record or "quality" not in record:
        return None
    promised = record["promised"]
    return abs(record["quality"]["value"] - promised["value"]) <= promised["tolerance"]
