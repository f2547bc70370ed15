"""A study: all records of one recipe run, as plain data that compare, report and frontier read.

A study file is JSON: {"schema", "name", "recipe", "efflab", "commit", "machines": {id: fingerprint}, "records": [...]}.
A record is one row of measurement, (variant, seed, backend, batch), as `Record` documents.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from efflab.costs import CostRecord
from efflab.errors import Problem, RequestError
from efflab.wording import one_line

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
SAME_QUALITY = 1e-4  # how far the mean of scores kept as float32 may lie from the quality that was worked out of them

Status = Literal["ok", "failed", "unavailable"]
Role = Literal[
    "baseline", "repeat", "variant", "control", "dense"
]  # repeat = the A/A row; dense = other family members


class CostGroup(TypedDict):
    """Validation examples that cost alike, one by one, in a model whose work depends on its input."""

    macs: int  # of one example, their mean
    share: float  # of the examples
    quality: float


class _WorkByInput(TypedDict, total=False):
    by_input: list[CostGroup]  # the cheapest first; the sums are then means over these examples


class Work(_WorkByInput):
    """The MAC ledger of one forward pass of one example."""

    macs: int
    effective_macs: int
    bit_operations: int
    params: int
    nonzero_params: int
    artefact_bytes: int
    coverage: float  # share of compute-bearing operators that had a formula
    uncounted: dict[str, int]  # the others: operator -> occurrences


class Quality(TypedDict):
    """The test-split score on this record's backend."""

    metric: str
    value: float
    scores: dict[str, Any]  # per-example scores, see `pack_scores`


class _LatencyOverInputs(TypedDict, total=False):
    inputs: int  # different batches that the calls went over in turn, in whole cycles; absent: one
    examples: int  # different examples of which a batch is made, where it repeats them; absent: as many as its size


class Latency(_LatencyOverInputs):
    """Raw times of one session, measured in rounds interleaved with the sessions of its group."""

    rounds_ms: list[list[float]]  # one list a round; round i of all sessions of a group ran side by side
    overhead_us: float  # the harness's own time per call, already subtracted
    warmup_runs: int
    prepare_s: float
    throughput_per_s: float | None
    peak_memory_bytes: int | None
    energy_j: float | None
    energy_method: str  # "measured: RAPL", or "estimate: ..."
    group: str  # sessions of one group are comparable pairwise
    quiet: bool
    threads: int


class Promised(TypedDict):
    """The quality that a dense model's card promises, and how far a score may lie from it."""

    value: float
    tolerance: float


class Fidelity(TypedDict):
    """What a step did to the outputs on real examples: no promise of quality, but a check that nothing is broken."""

    sqnr_db: float | None  # signal over error of the scored output against the step's input, at most 200: equal
    agreement: (
        float | None
    )  # share of examples whose highest output stayed the highest; None for outputs without classes
    examples: int
    warnings: list[str]  # sentences that belong beside the row


class StepFidelity(Fidelity):
    """The same in a record: of which technique, and what else its reader should know."""

    technique: str
    notes: list[str]


class Record(TypedDict):
    """One measured (or failed) row."""

    variant: str
    role: Role
    of: str | None  # what it must be compared with: the baseline's name (None for baseline and dense rows)
    parent: str | None
    steps: list[dict[str, Any]]  # [{technique: settings}, ...] from the baseline on
    baseline: str  # card
    family: str | None
    task: str
    task_settings: NotRequired[dict[str, Any]]  # as in the card; absent where there are none, and in older studies
    seed: int
    backend: str  # as in the recipe, e.g. "openvino[precision=bf16]"
    device: str
    batch_size: int
    machine: str  # key of the study's `machines`
    status: Status
    reason: str  # empty when ok; else one sentence
    work: NotRequired[Work]
    quality: NotRequired[Quality]
    latency: NotRequired[Latency]  # absent for seeds after the first
    recovery: NotRequired[CostRecord]  # the steps' own work, the baseline's training not included
    training: NotRequired[CostRecord]  # the baseline's (or dense member's) training
    promised: NotRequired[Promised]  # dense rows whose card promises a quality
    margin: NotRequired[float]  # non-inferiority margin, as a share of the baseline's metric, fixed in the recipe
    stages: NotRequired[dict[str, str]]
    fidelity: NotRequired[list[StepFidelity]]  # one a step; absent in older studies


class SearchRecord(TypedDict):
    """What a recipe's search tried before its variants were measured; values are of the validation split."""

    minimize: list[str]
    where: list[str]
    backend: str
    batch_size: int
    points: float | None  # of the space; None where it has no end
    cost: CostRecord  # of all trials, each stage once, and of the trainings of the cards that they started from
    found: dict[str, int]  # variant -> its trial
    front: list[int]  # every trial that none beats
    trials: list[Any]  # efflab.search.journal.Trial


class Study(TypedDict):
    """All records of one recipe run with their provenance."""

    schema: int
    name: str
    recipe: str  # the recipe's text
    efflab: str
    commit: str
    data: dict[str, str]  # task -> digest
    machines: dict[str, dict[str, Any]]
    records: list[Record]
    search: NotRequired[SearchRecord]


def repeats(examples: int) -> str:
    """Say in words that a batch is larger than what it is made of."""
    return f"a batch repeats the {examples:,} examples of the validation split, which has no more"


def keeps_promise(record: Record) -> bool | None:
    """Say whether a dense model's score lies within its card's promise; None where nothing was promised or scored."""
    if "promised" not in record or "quality" not in record:
        return None
    promised = record["promised"]
    return abs(record["quality"]["value"] - promised["value"]) <= promised["tolerance"]


def pack_scores(scores: np.ndarray) -> dict[str, Any]:
    """Encode per-example scores as JSON: a bit each where all are 0 or 1, else float32."""
    import numpy as np

    if scores.ndim == 1 and np.isin(scores, (0, 1)).all():
        return {"bits": base64.b64encode(np.packbits(scores.astype(np.uint8)).tobytes()).decode(), "n": len(scores)}
    data = base64.b64encode(np.ascontiguousarray(scores, dtype="<f4").tobytes()).decode()
    return {"float32": data, "shape": list(scores.shape)}


def unpack_scores(packed: dict[str, Any]) -> np.ndarray:
    """Decode what `pack_scores` encoded."""
    import numpy as np

    if "bits" in packed:
        bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
        return np.unpackbits(bits, count=packed["n"])
    return np.frombuffer(base64.b64decode(packed["float32"]), dtype="<f4").reshape(packed["shape"])


def save_study(study: Study, path: Path) -> None:
    """Write a study, beside its final place first, so that a reader never sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(study, separators=(",", ":")))
    part.replace(path)


def load_study(path: Path) -> Study:
    """Read a study; raise RequestError if it is missing, damaged, of a newer schema, or lacks what readers rely on."""
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RequestError(Problem(str(path), "no study here; `efflab run` writes one")) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(Problem(str(path), f"not a study file ({one_line(error)})")) from error
    schema = study.get("schema") if isinstance(study, dict) else None
    if type(schema) is not int or schema < 1:
        raise RequestError(Problem(str(path), "not a study file (it has no `schema` number)"))
    if schema > SCHEMA:
        raise RequestError(Problem(str(path), f"written by a newer efflab (schema {schema}, this one knows {SCHEMA})"))
    what = _damage(study)
    if what:
        raise RequestError(Problem(str(path), f"a damaged study: {what}; run the recipe again"))
    return study  # type: ignore[no-any-return]


def _damage(study: dict[str, Any]) -> str:
    """Return the first thing in a study that readers rely on and that is not there, or ""."""
    wrong = _lacks(study, _STUDY)
    wrong = wrong or next(
        filter(None, (_lacks(it, {}, f"machines.{one}") for one, it in study["machines"].items())), ""
    )
    if wrong or not study["records"]:
        return wrong or "it has no records"
    for index, record in enumerate(study["records"]):
        place = f"records[{index}]"
        wrong = _lacks(record, _RECORD)
        if not wrong and record["machine"] not in study["machines"]:
            wrong = f"machine {record['machine']!r} is not among the study's machines"
        if not wrong and not isinstance(record.get("task_settings", {}), dict):
            wrong = "task_settings must be a mapping"
        for name, part in _PARTS.items():
            if not wrong and name in record:
                wrong = _lacks(record[name], dict.fromkeys(part.__required_keys__, object) | _KINDS.get(name, {}), name)
        wrong = wrong or _odd_numbers(record) or _odd_scores(record)
        if wrong:
            return f"{place}: {wrong}"
    return ""


def _odd_numbers(record: dict[str, Any]) -> str:
    """Return the first number of a record's parts that is none, or ""."""
    work = record.get("work", {})
    for name in ("macs", "effective_macs", "bit_operations", "params", "nonzero_params", "artefact_bytes", "coverage"):
        if name in work and type(work[name]) not in (int, float):
            return f"work.{name} must be a number"
    if not _sound_groups(work.get("by_input", [])):
        return "work.by_input must be a list of groups with macs, share and quality, whose shares make 1"
    value = record.get("quality", {"value": 0.0})["value"]
    if type(value) not in (int, float) or value != value:
        return "quality.value must be a number"
    if "latency" not in record:
        return ""
    inputs = record["latency"].get("inputs", 1)
    if type(inputs) is not int or inputs < 1:
        return "latency.inputs must be a count"
    examples = record["latency"].get("examples", 1)
    if type(examples) is not int or examples < 1:
        return "latency.examples must be a count"
    rounds = record["latency"]["rounds_ms"]
    if not isinstance(rounds, list) or not all(isinstance(times, list) for times in rounds) or not any(rounds):
        return "latency.rounds_ms must be a list of lists of times"
    odd = not all(
        set(map(type, times)) <= {int, float} and min(times, default=0) >= 0 <= sum(times) for times in rounds
    )
    if not odd and any(len(times) % inputs for times in rounds):
        return "latency.rounds_ms must hold whole turns over latency.inputs"
    return "latency.rounds_ms must hold times, none below 0" if odd else ""  # a sum with NaN is NaN, and not from 0 on


def _sound_groups(groups: Any) -> bool:
    """Say whether the groups of a ledger by input can be read."""
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return False
    wanted = ("macs", "share", "quality")
    if not all(type(group.get(name)) in (int, float) for group in groups for name in wanted):
        return False
    return not groups or abs(sum(group["share"] for group in groups) - 1) < 1e-6


def _odd_scores(record: dict[str, Any]) -> str:
    """Say what is wrong with a record's scores of single examples: their number, or a mean unlike its quality; or ""."""
    if "quality" not in record:
        return ""
    packed, value = record["quality"]["scores"], record["quality"]["value"]
    try:
        mean = _mean_score(packed)
    except (KeyError, TypeError, ValueError) as error:
        return f"quality.scores cannot be read ({one_line(error)})"
    if mean is not None and not abs(mean - value) <= SAME_QUALITY:
        return f"quality.scores have a mean of {mean:.4f}, quality.value is {value:.4f}"
    return ""


def _mean_score(packed: dict[str, Any]) -> float | None:
    """Return the mean of packed scores, None where an example has several; raise ValueError for a wrong number of them."""
    if "bits" not in packed:
        scores = unpack_scores(packed)
        return float(scores.mean(dtype=float)) if scores.ndim == 1 and len(scores) else None
    raw, n = base64.b64decode(packed["bits"], validate=True), packed["n"]
    if type(n) is not int or n < 1 or len(raw) != -(-n // 8):
        raise ValueError(f"{len(raw)} bytes for n = {n!r}")
    return int.from_bytes(raw).bit_count() / n


def _lacks(entry: Any, wanted: dict[str, Any], name: str = "") -> str:
    if not isinstance(entry, dict):
        return f"{name or 'it'} must be a mapping"
    wrong = next((key for key, kind in wanted.items() if key not in entry or not isinstance(entry[key], kind)), None)
    return "" if wrong is None else f"{name}{'.' if name else ''}{wrong} is missing or of the wrong kind"


_STUDY = {"name": str, "recipe": str, "efflab": str, "commit": str, "data": dict, "machines": dict, "records": list}
_RECORD = {
    **dict.fromkeys(("variant", "role", "baseline", "task", "backend", "device", "machine", "status", "reason"), str),
    **dict.fromkeys(("of", "parent", "family"), str | None),
    **dict.fromkeys(("seed", "batch_size"), int),
    "steps": list,
}
_KINDS: dict[str, dict[str, Any]] = {"quality": {"metric": str}}
_PARTS: dict[str, Any] = {
    "work": Work,
    "quality": Quality,
    "latency": Latency,
    "recovery": CostRecord,
    "training": CostRecord,
    "promised": Promised,
}
