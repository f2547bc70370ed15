"""Validates a backend with all suites, and gives one plain record: what was asked, and the verdict on every case."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from efflab.contracts.backend import why_unavailable
from efflab.foundation import machine, registry
from efflab.foundation.errors import RequestError
from efflab.foundation.wording import one_line
from efflab.validation.backends.calls import read_arrays
from efflab.validation.backends.localise import localise
from efflab.validation.backends.own.file import read_all
from efflab.validation.backends.own.suite import prepare_own
from efflab.validation.backends.pool import CaseOutcome, Opening, run_requests
from efflab.validation.backends.suites import behaviour, operators
from efflab.validation.backends.suites.models import run_models
from efflab.validation.backends.suites.portability import run_portability
from efflab.validation.backends.suites.speed import run_speed
from efflab.validation.backends.tolerance import rules_of
from efflab.validation.record import SCHEMA, ForecastRow, OwnRow, SpeedRow, Validation
from efflab.validation.verdict import CaseResult
from efflab.validation.zoo import MADE, QUICK, ZooModel, make_classics, make_zoo, taken_names

SUITES = ("operators", "models", "behaviour", "speed", "portability")
CASE_LIMIT_S = 20.0
Report = Callable[[str, int, int, str], None]  # suite, done, total, note


@dataclass(frozen=True)
class Request:
    """What is to be validated, and how."""

    opening: Opening
    suites: Sequence[str] = SUITES
    quick: bool = False
    workers: int = 2
    only: str = ""  # operators: cases whose name or operator holds this
    models: Sequence[Path] = field(default=())  # ONNX files of the user's own
    localise: Path | None = None  # folder for reproducers
    speed_reference: str = "onnxruntime"

    @property
    def reference(self) -> str:
        """The backend that speed is held against: eager PyTorch where the one asked for is the one under test."""
        return self.speed_reference if self.speed_reference != self.opening.backend else "torch"


def validate(asked: Request, report: Report = lambda suite, done, total, note: None) -> Validation:
    """Run the suites asked for; raise RequestError if the backend cannot be opened or a request makes no sense."""
    files = read_all(asked.models, taken_names())  # before the work, so that a mistake is told first
    backend = registry.load("backends", asked.opening.backend)
    _check_own(asked, backend.takes)
    reason = why_unavailable(backend)
    if reason:
        raise RequestError(f"backend {asked.opening.backend}: {reason}")
    backend(**asked.opening.settings)
    results: list[CaseResult] = []
    speed: list[SpeedRow] = []
    forecasts: list[ForecastRow] = []
    located: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="efflab-validate-") as temporary:
        root = Path(temporary)
        own: list[tuple[ZooModel, OwnRow]] = []
        if files:
            report("models", 0, 1, "making up inputs for your models")
            own = prepare_own(asked.opening, files, asked.suites, asked.quick, root)
        if "operators" in asked.suites:
            results += _operators(asked, backend.takes, report)
        zoo = [*_zoo(asked, root, report), *(model for model, _ in own)] if {*SUITES[1:]} & {*asked.suites} else []
        if "models" in asked.suites:
            found = run_models(asked.opening, zoo, root, asked.quick, lambda *told: report("models", *told))
            results += [_result("models", case.name, outcome, dtype=case.numbers) for case, outcome in found]
            if asked.localise:
                located = _located(asked, found, root)
        if "behaviour" in asked.suites:
            results += _behaviour(asked, zoo[0], backend.takes, report)
        if "speed" in asked.suites:
            speed = _speed(asked, zoo, root, report)
        if "portability" in asked.suites:
            forecasts = run_portability(zoo, lambda *told: report("portability", *told))
    return {
        "schema": SCHEMA, "backend": asked.opening.backend, "settings": asked.opening.settings,
        "reference": asked.reference, "suites": [*asked.suites], "quick": asked.quick,
        "only": asked.only, "tolerances": _own_rules(asked), "own": [row for _, row in own],
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.fingerprint(), "results": results, "speed": speed, "forecasts": forecasts, "located": located,
    }  # fmt: skip


def _own_rules(asked: Request) -> list[dict[str, Any]]:
    files = [Path(path) for path in asked.opening.tolerances]
    return [rule.model_dump(exclude_none=True) for rule in rules_of(files)[: -len(rules_of([]))]]


def _result(
    suite: str, name: str, outcome: CaseOutcome, operator: str = "", dtype: str = "", opset: int | None = None
) -> CaseResult:
    return {
        "suite": suite, "name": name, "operator": operator, "dtype": dtype, "opset": opset, "verdict": outcome.verdict,
        "reason": outcome.reason, "seconds": round(outcome.seconds, 4), "numbers": outcome.numbers,
    }  # fmt: skip


def _operators(asked: Request, takes: str, report: Report) -> list[CaseResult]:
    if takes != "onnx":
        told = "the backend takes modules, and ONNX's conformance cases are graphs"
        return [_result("operators", "all", CaseOutcome("skipped", told, 0.0, {}))]
    cases = operators.operator_cases(lambda *told: report("operators", *told))
    if asked.only:
        cases = [case for case in cases if asked.only in (case.operator, case.name) or asked.only in case.name]
        if not cases:
            raise RequestError(f"no conformance case has {asked.only!r} in its name")
    elif asked.quick:
        cases = operators.few(cases)
    requests = [
        {"suite": "operators", "name": case.name, "folder": case.folder, "operator": case.operator} for case in cases
    ]
    outcomes = run_requests(
        asked.opening, requests, asked.workers, CASE_LIMIT_S, lambda *told: report("operators", *told)
    )
    return [
        _result("operators", case.name, outcome, case.operator, case.dtype, case.opset)
        for case, outcome in zip(cases, outcomes, strict=True)
    ]


def _zoo(asked: Request, root: Path, report: Report) -> list[ZooModel]:
    report("models", 0, 1, "making models")
    zoo = make_zoo(root / "zoo", QUICK if asked.quick else MADE)
    takes = registry.load("backends", asked.opening.backend).takes
    if not asked.quick and "models" in asked.suites and takes == "onnx":
        zoo += make_classics(root / "classics", lambda *told: report("models", *told))
    return zoo


def _check_own(asked: Request, takes: str) -> None:
    """Raise RequestError for models of the user's that the backend, or what its speed is held against, cannot take."""
    if not asked.models:
        return
    if takes != "onnx":
        raise RequestError(f"--model takes ONNX files, and {asked.opening.backend} takes modules, not graphs")
    if {"models", "speed"} & {*asked.suites} == {"speed"} and registry.load(
        "backends", asked.reference
    ).takes != "onnx":
        told = f"{asked.reference} takes modules, so an ONNX file cannot be timed against it"
        raise RequestError(f"{told}; name a reference that takes graphs, as in --reference openvino")


def _behaviour(asked: Request, model: ZooModel, takes: str, report: Report) -> list[CaseResult]:
    folder = next((path for form, path in model.folders.items() if form == takes), None)
    names = behaviour.QUICK if asked.quick else tuple(behaviour.CHECKS)
    requests = [
        {"suite": "behaviour", "name": name, "folder": folder, "form": takes, "inputs": model.inputs,
         "limit_s": behaviour.LIMIT_S.get(name, 120.0)}
        for name in names
    ]  # fmt: skip
    # one at a time: two that run at once would disturb what is timed, and each in a fresh process after a crash
    outcomes = run_requests(asked.opening, requests, 1, 120.0, lambda *told: report("behaviour", *told))
    return [_result("behaviour", name, outcome) for name, outcome in zip(names, outcomes, strict=True)]


def _speed(asked: Request, zoo: list[ZooModel], root: Path, report: Report) -> list[SpeedRow]:
    timed = [*zoo[:2], *(model for model in zoo[2:] if model.own)] if asked.quick else zoo
    found = run_speed(
        asked.opening, Opening(asked.reference, {}, asked.opening.threads, []), timed, root,
        asked.quick, lambda *told: report("speed", *told),
    )  # fmt: skip
    return [
        {"model": one.model, "batch": one.batch, "latency_ms_p50": one.latency_ms_p50,
         "reference_ms_p50": one.reference_ms_p50, "verdict": one.verdict, "throughput_per_s": one.throughput_per_s,
         "ratio": {"value": one.ratio.value, "low": one.ratio.low, "high": one.ratio.high} if one.ratio else None}
        for one in found
    ]  # fmt: skip


def _located(asked: Request, found: list[Any], root: Path) -> list[dict[str, Any]]:
    """Localise the fault of every model that is wrong, once a model."""
    located: dict[str, dict[str, Any]] = {}
    for case, outcome in found:
        if outcome.verdict != "wrong" or case.request is None or case.request["form"] != "onnx":
            continue
        folder = Path(case.request["folder"])
        if folder.name in located or asked.localise is None:
            continue
        target = asked.localise / folder.name
        inputs = case.request["inputs"] if "inputs" in case.request else case.request["calls"][outcome.numbers["call"]]
        known = read_arrays(Path(case.request["references"]) / Path(inputs).name) if "calls" in case.request else ()
        limit = case.request["min_sqnr_db"]
        try:
            where = localise(asked.opening, folder / "model.onnx", Path(inputs), target, limit, known)
        except Exception as error:  # the verdicts stand all the same
            where = f"the search failed: {one_line(error)}"
        told = where if isinstance(where, str) else where.words()
        located[folder.name] = {"model": folder.name, "words": told} | (
            {} if isinstance(where, str) else where._asdict()
        )
    return list(located.values())
