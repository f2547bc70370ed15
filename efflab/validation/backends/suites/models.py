"""The models suite: whole networks in each form and batch size, against a reference that is another runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from efflab.artefacts.artefact import Form
from efflab.foundation import registry
from efflab.foundation.config import parse_yaml
from efflab.foundation.progress import Report
from efflab.records.samples import unpack_scores
from efflab.statistics import paired_difference
from efflab.validation.backends.pool import CaseOutcome, Opening, run_requests
from efflab.validation.verdict import Verdict
from efflab.validation.zoo import ZooModel

LIMITS = Path(__file__).with_name("parity.yaml")
BATCHES = ([1], [3], [128], [4, 1, 3, 128])  # the last on one session: dynamic shapes
QUICK_BATCHES = ([3], [4, 1, 3])
LIMIT_S = 300.0
MOST_LOST = 0.01  # of accuracy, that the interval of the difference to a reference must exclude
REFERENCE_BATCH = 8
# runtimes that answer for others, the first that is not the one under test: eager PyTorch defines what a module means,
# and an unoptimised graph what ONNX means
REFERENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("torch", {}), ("onnxruntime", {"optimisation": "none"}), ("openvino", {}),
)  # fmt: skip
SIXTEEN = {"bf16": "bfloat16", "bfloat16": "bfloat16", "f16": "float16", "float16": "float16", "fp16": "float16"}


class Planned(NamedTuple):
    """A case: what is asked of the backend, or why it is skipped."""

    name: str
    numbers: str
    request: dict[str, Any] | None
    skipped: str = ""


def run_models(
    opening: Opening, zoo: Sequence[ZooModel], root: Path, quick: bool = False,
    report: Report = lambda done, total, note: None,
) -> list[tuple[Planned, CaseOutcome]]:  # fmt: skip
    """Return each case with its outcome; the references' outputs are written to `root`."""
    takes: Form = registry.load("backends", opening.backend).takes
    planned: list[Planned] = []
    for model in zoo:
        if takes not in model.folders:
            planned.append(Planned(model.name, model.numbers, None, f"there is no such model in the form {takes!r}"))
            continue
        if model.calls is not None:
            planned += _own_cases(opening, model, quick)
            continue
        reference = _reference(opening, model, root)
        if isinstance(reference, str):
            planned.append(Planned(model.name, model.numbers, None, reference))
            continue
        for batches in [[model.fixed_batch]] if model.fixed_batch else QUICK_BATCHES if quick else BATCHES:
            told = _batch_words(batches)
            request = {
                "suite": "models", "name": f"{model.name}, {told}", "folder": model.folders[takes], "form": takes,
                "inputs": model.inputs, "reference": str(reference), "batches": batches,
                **limits_of(_numbers(opening, model)),
            }  # fmt: skip
            planned.append(Planned(f"{model.name}, {told}", _numbers(opening, model), request))
    outcomes = iter(run_requests(opening, [one.request for one in planned if one.request], 1, LIMIT_S, report))
    found = [(one, next(outcomes) if one.request else CaseOutcome("skipped", one.skipped, 0.0, {})) for one in planned]
    trained = [model for model in zoo if model.trained and takes in model.folders]
    return found + [_quality(opening, model, takes) for model in (trained[-1:] if quick else trained)]


def _own_cases(opening: Opening, model: ZooModel, quick: bool) -> list[Planned]:
    """Return the cases of a user's model, whose references are there already; batch sizes that it does not take are out."""
    calls, numbers = model.calls or {}, _numbers(opening, model)
    wanted = [[model.fixed_batch]] if model.fixed_batch else QUICK_BATCHES if quick else BATCHES
    lists = [[size for size in batches if size in calls] for batches in wanted]
    lists = [
        sizes for sizes, batches in zip(lists, wanted, strict=True) if sizes and (len(sizes) > 1 or len(batches) == 1)
    ]
    planned = []
    for sizes in lists or [[max(calls)]]:
        name = f"{model.name}, {_batch_words(sizes)}"
        request = {
            "suite": "calls", "name": name, "folder": model.folders["onnx"], "form": "onnx",
            "calls": [file for size in sizes for file in calls[size]], "references": model.references, **limits_of(numbers),
        }  # fmt: skip
        planned.append(Planned(name, numbers, request))
    return planned


def _batch_words(batches: Sequence[int]) -> str:
    if len(batches) == 1:
        return f"batch {batches[0]}"
    return "one session, batches " + ", ".join(map(str, batches))


def _quality(opening: Opening, model: ZooModel, takes: Form) -> tuple[Planned, CaseOutcome]:
    """Hold a trained model's accuracy on this backend against that on a reference, image by image."""
    planned = Planned(f"{model.name}, accuracy", model.numbers, None)
    scored: list[CaseOutcome] = []
    for name, settings in [(opening.backend, opening.settings), *REFERENCES]:
        backend = registry.load("backends", name)
        if scored and (name == opening.backend or backend.takes not in model.folders or backend.available()):
            continue
        form = backend.takes
        request = {"suite": "quality", "name": planned.name, "folder": model.folders[form], "form": form}
        one = opening if not scored else Opening(name, settings, opening.threads, [])
        (outcome,) = run_requests(one, [request], 1, LIMIT_S)
        if outcome.verdict != "pass":
            return planned, outcome
        scored.append(outcome)
        if len(scored) == 2:
            return planned, _compared(*scored)
    return planned, CaseOutcome("skipped", "no other runtime here gives a reference", scored[0].seconds, {})


def _compared(mine: CaseOutcome, reference: CaseOutcome) -> CaseOutcome:
    scores = [unpack_scores(one.numbers["scores"]) for one in (reference, mine)]
    gap = paired_difference(scores[0], scores[1])
    numbers = {
        "quality": mine.numbers["quality"],
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
    }
    told = f"{100 * gap.value:+.2f} [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}] points against the reference"
    verdict: Verdict = "pass" if gap.low > -MOST_LOST else "wrong"
    return CaseOutcome(verdict, told, mine.seconds, numbers)


def _numbers(opening: Opening, model: ZooModel) -> str:
    """Return the kind of numbers that an answer has: the model's, or those of a backend set to 16 bits."""
    asked = next((SIXTEEN[str(value)] for value in opening.settings.values() if str(value) in SIXTEEN), None)
    fewer = asked == "bfloat16" and model.numbers == "float16"  # bits: the arithmetic is as coarse as the setting
    return asked if asked and (model.numbers == "float32" or fewer) else model.numbers


def limits_of(numbers: str) -> dict[str, Any]:
    """Return how near outputs of a kind of numbers must come to a reference's, and why."""
    found: dict[str, Any] = dict(parse_yaml(LIMITS.read_text(encoding="utf-8"), LIMITS).data[numbers])
    return {"min_sqnr_db": found["min_sqnr_db"], "min_agreement": found["min_agreement"], "why": found["reason"]}


def _reference(opening: Opening, model: ZooModel, root: Path) -> Path | str:
    """Return the file of a reference's outputs, or in words why there is none."""
    tried = []
    for name, settings in REFERENCES:
        backend = registry.load("backends", name)
        if name == opening.backend or backend.takes not in model.folders or backend.available():
            continue
        out = root / f"{model.name}.{name}.npz"
        if out.exists():
            return out
        batch = model.fixed_batch or REFERENCE_BATCH
        request = {
            "suite": "models", "name": model.name, "folder": model.folders[backend.takes], "form": backend.takes,
            "inputs": model.inputs, "out": str(out), "batches": [batch],
        }  # fmt: skip
        (outcome,) = run_requests(Opening(name, settings, opening.threads, []), [request], 1, LIMIT_S)
        if outcome.verdict == "pass":
            return out
        tried.append(f"{name}: {outcome.reason}")
    return "; ".join(["no other runtime here gives a reference", *tried])
