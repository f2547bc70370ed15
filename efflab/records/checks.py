"""What must be in a study for its readers to rely on it; anything else is a damaged file."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from efflab.foundation.wording import one_line
from efflab.records.cost import CostRecord
from efflab.records.record import SAME_QUALITY, Latency, Promised, Quality, Work
from efflab.records.samples import mean_score


def damage(study: dict[str, Any], sound: Collection[int] = ()) -> str:
    """Return the first thing in a study that readers rely on and that is not there, or "".

    sound: places of records whose times need no look, as they were stored as whole numbers.
    """
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
        wrong = wrong or _odd_numbers(record, index in sound) or _odd_scores(record)
        if wrong:
            return f"{place}: {wrong}"
    return ""


def _odd_numbers(record: dict[str, Any], sound: bool) -> str:
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
    wrong = _odd_error(record.get("quality", {}))
    if wrong or "latency" not in record:
        return wrong
    inputs = record["latency"].get("inputs", 1)
    if type(inputs) is not int or inputs < 1:
        return "latency.inputs must be a count"
    examples = record["latency"].get("examples", 1)
    if type(examples) is not int or examples < 1:
        return "latency.examples must be a count"
    rounds = record["latency"]["rounds_ms"]
    if not isinstance(rounds, list) or not all(isinstance(times, list) for times in rounds) or not any(rounds):
        return "latency.rounds_ms must be a list of lists of times"
    odd = not sound and not all(
        set(map(type, times)) <= {int, float} and min(times, default=0) >= 0 <= sum(times) for times in rounds
    )
    if not odd and any(len(times) % inputs for times in rounds):
        return "latency.rounds_ms must hold whole turns over latency.inputs"
    return "latency.rounds_ms must hold times, none below 0" if odd else ""  # a sum with NaN is NaN, and not from 0 on


def _odd_error(quality: dict[str, Any]) -> str:
    """Say what is wrong with the error of a quality, or with the other metrics beside it; or ""."""
    error, others = quality.get("error", 0.0), quality.get("others", {})
    if type(error) not in (int, float) or not error >= 0:
        return "quality.error must be a number from 0 on"
    if not all(isinstance(quality.get(name, ""), str) for name in ("error_rule", "unit")):
        return "quality.error_rule and quality.unit must be words"
    if not isinstance(others, dict) or not all(type(value) in (int, float) for value in others.values()):
        return "quality.others must hold numbers"
    return ""


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
        mean = mean_score(packed)
    except (KeyError, TypeError, ValueError) as error:
        return f"quality.scores cannot be read ({one_line(error)})"
    if mean is not None and not abs(mean - value) <= SAME_QUALITY:
        return f"quality.scores have a mean of {mean:.4f}, quality.value is {value:.4f}"
    return ""


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
