"""Validates a backend with all suites, and gives one plain record: what was asked, and the verdict on every case."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from efflab import environment, registry
from efflab.backend import why_unavailable
from efflab.errors import Problem, RequestError
from efflab.validation import behaviour, operators
from efflab.validation.localise import localise
from efflab.validation.models import run_models
from efflab.validation.pool import Opening, Outcome, run_requests
from efflab.validation.portability import run_portability
from efflab.validation.record import SCHEMA, ForecastRow, SpeedRow, Validation
from efflab.validation.speed import run_speed
from efflab.validation.tolerance import rules_of
from efflab.validation.verdict import Result
from efflab.validation.zoo import MADE, QUICK, ZooModel, make_classics, make_zoo

SUITES = ("operators", "models", "behaviour", "speed", "portability")
CASE_LIMIT_S = 20.0
OWN_ROWS = 128  # of a user's model, as many as the largest batch
Report = Callable[[str, int, int, str], None]  # suite, done, total, note


@dataclass(frozen=True)
class Asked:
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


def validate(asked: Asked, report: Report = lambda suite, done, total, note: None) -> Validation:
    """Run the suites asked for; raise RequestError if the backend cannot be opened or a request makes no sense."""
    for path in asked.models:
        read_own(path)  # before the work, so that a mistake is told first
    backend = registry.load("backends", asked.opening.backend)
    reason = why_unavailable(backend)
    if reason:
        raise RequestError(f"backend {asked.opening.backend}: {reason}")
    backend(**asked.opening.settings)
    results: list[Result] = []
    speed: list[SpeedRow] = []
    forecasts: list[ForecastRow] = []
    located: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="efflab-validate-") as temporary:
        root = Path(temporary)
        if "operators" in asked.suites:
            results += _operators(asked, backend.takes, report)
        zoo = _zoo(asked, root, report) if {*SUITES[1:]} & {*asked.suites} else []
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
        "only": asked.only, "tolerances": _own_rules(asked), "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": environment.fingerprint(), "results": results, "speed": speed, "forecasts": forecasts, "located": located,
    }  # fmt: skip


def _own_rules(asked: Asked) -> list[dict[str, Any]]:
    files = [Path(path) for path in asked.opening.tolerances]
    return [rule.model_dump(exclude_none=True) for rule in rules_of(files)[: -len(rules_of([]))]]


def _result(
    suite: str, name: str, outcome: Outcome, operator: str = "", dtype: str = "", opset: int | None = None
) -> Result:
    return {
        "suite": suite, "name": name, "operator": operator, "dtype": dtype, "opset": opset, "verdict": outcome.verdict,
        "reason": outcome.reason, "seconds": round(outcome.seconds, 4), "numbers": outcome.numbers,
    }  # fmt: skip


def _operators(asked: Asked, takes: str, report: Report) -> list[Result]:
    if takes != "onnx":
        told = "the backend takes modules, and ONNX's conformance cases are graphs"
        return [_result("operators", "all", Outcome("skipped", told, 0.0, {}))]
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


def _zoo(asked: Asked, root: Path, report: Report) -> list[ZooModel]:
    report("models", 0, 1, "making models")
    zoo = make_zoo(root / "zoo", QUICK if asked.quick else MADE)
    takes = registry.load("backends", asked.opening.backend).takes
    if not asked.quick and "models" in asked.suites and takes == "onnx":
        zoo += make_classics(root / "classics", lambda *told: report("models", *told))
    return zoo + [_own(path, root) for path in asked.models]


def read_own(path: Path) -> Any:
    """Return the model of a user's ONNX file; raise RequestError if there is none that takes tensors."""
    import onnx

    from efflab.validation.exchange import inputs_of

    if not path.is_file():
        raise RequestError(Problem(str(path), "there is no such file"))
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except Exception as error:
        raise RequestError(Problem(str(path), f"not an ONNX file ({type(error).__name__})")) from error
    if not inputs_of(model) or any(one.type.WhichOneof("value") != "tensor_type" for one in inputs_of(model)):
        raise RequestError(Problem(str(path), "not an ONNX file of a model that takes tensors"))
    return model


def _own(path: Path, root: Path) -> ZooModel:
    """Return a user's ONNX file as a model, with random inputs of its declared shapes.

    Where the first axis of every input is free it is the batch, and all batch sizes are run; other free axes are 1.
    """
    import shutil

    import numpy as np
    import onnx

    from efflab.artefact import GRAPH, write_structure
    from efflab.validation.exchange import inputs_of

    model = read_own(path)
    folder = root / "own" / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / GRAPH)
    write_structure(folder, "onnx")
    generator, arrays = np.random.default_rng(0), []
    axes = [one.type.tensor_type.shape.dim for one in inputs_of(model)]
    free = all(dims and not dims[0].dim_value for dims in axes)
    for one in inputs_of(model):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
        shape = [dim.dim_value or 1 for dim in one.type.tensor_type.shape.dim]
        if free:
            shape[0] = OWN_ROWS
        arrays.append(generator.normal(0, 1, shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype))
    np.savez(folder / "inputs.npz", *arrays)
    return ZooModel(
        path.stem,
        "int8" if any("Quantize" in node.op_type for node in model.graph.node) else "float32",
        {"onnx": str(folder)},
        str(folder / "inputs.npz"),
        fixed_batch=None if free else len(arrays[0]),
        own=True,
    )


def _behaviour(asked: Asked, model: ZooModel, takes: str, report: Report) -> list[Result]:
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


def _speed(asked: Asked, zoo: list[ZooModel], root: Path, report: Report) -> list[SpeedRow]:
    found = run_speed(
        asked.opening, Opening(asked.reference, {}, asked.opening.threads, []), zoo[: 2 if asked.quick else None], root,
        asked.quick, lambda *told: report("speed", *told),
    )  # fmt: skip
    return [
        {"model": one.model, "batch": one.batch, "latency_ms_p50": one.latency_ms_p50,
         "reference_ms_p50": one.reference_ms_p50, "verdict": one.verdict, "throughput_per_s": one.throughput_per_s,
         "ratio": {"value": one.ratio.value, "low": one.ratio.low, "high": one.ratio.high} if one.ratio else None}
        for one in found
    ]  # fmt: skip


def _located(asked: Asked, found: list[Any], root: Path) -> list[dict[str, Any]]:
    """Localise the fault of every model that is wrong, once a model."""
    located: dict[str, dict[str, Any]] = {}
    for case, outcome in found:
        if outcome.verdict != "wrong" or case.request is None or case.request["form"] != "onnx":
            continue
        folder = Path(case.request["folder"])
        if folder.name in located or asked.localise is None:
            continue
        target = asked.localise / folder.name
        where = localise(
            asked.opening, folder / "model.onnx", Path(case.request["inputs"]), target, case.request["min_sqnr_db"]
        )
        told = where if isinstance(where, str) else where.words()
        located[folder.name] = {"model": folder.name, "words": told} | (
            {} if isinstance(where, str) else where._asdict()
        )
    return list(located.values())
