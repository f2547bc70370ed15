"""The operators suite: the ONNX project's own conformance cases, which come inside the `onnx` package."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from efflab.foundation.files import expanded
from efflab.foundation.progress import Report
from efflab.foundation.quiet import quiet
from efflab.validation.backends.onnx_cases import dtype_name, inputs_of, write_case

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


class OperatorCase(NamedTuple):
    """One conformance case on disk."""

    name: str
    kind: str
    operator: str  # the operator that it is about; "several" for graphs of more than one
    dtype: str  # of the first input, else of the first output
    opset: int
    folder: str


def operator_cases(report: Report = lambda done, total, note: None) -> list[OperatorCase]:
    """Return all cases, written to the cache of this version of onnx the first time (some 20 s)."""
    import onnx

    root = (
        expanded(os.environ.get("EFFLAB_CACHE") or "~/.cache/efflab", "EFFLAB_CACHE") / "onnx-cases" / onnx.__version__
    )
    index = root / "index.json"
    if not index.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=root.parent))
        try:
            cases = _write_all(part, report)
            (part / "index.json").write_text(json.dumps([case._asdict() for case in cases]))
            shutil.rmtree(root, ignore_errors=True)
            part.replace(root)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return [OperatorCase(**{**case, "folder": str(root / case["folder"])}) for case in json.loads(index.read_text())]


def few(cases: list[OperatorCase]) -> list[OperatorCase]:
    """Return one case for each operator and element type, for a quick look."""
    return list({(case.operator, case.dtype): case for case in reversed(cases)}.values())[::-1]


def _write_all(root: Path, report: Report) -> list[OperatorCase]:
    from onnx.backend.test.loader import load_model_tests

    with quiet():  # the cases themselves divide by zero and overflow on purpose
        found: list[tuple[str, Any]] = [(kind, case) for kind in KINDS for case in load_model_tests(kind=kind)]
    models = {}
    for number, (kind, case) in enumerate(found):
        folder = root / kind / case.name
        models[case.name] = _write(case, folder)
        if number % 100 == 0:
            report(number, len(found), "writing ONNX's conformance cases")
    operators = {name: _operator(model) for name, model in models.items()}
    return [
        OperatorCase(
            case.name,
            kind,
            _told(case.name, operators),
            _dtype(models[case.name]),
            _opset(models[case.name]),
            f"{kind}/{case.name}",
        )
        for kind, case in found
    ]


def _write(case: Any, folder: Path) -> Any:
    import onnx

    if case.model is not None:
        write_case(folder, case.model, case.data_sets)
        return case.model
    shutil.copytree(case.model_dir, folder)
    return onnx.load(folder / "model.onnx", load_external_data=False)


def _operator(model: Any) -> str:
    kinds = {node.op_type for node in model.graph.node}
    return kinds.pop() if len(kinds) == 1 else "several"


def _told(name: str, operators: dict[str, str]) -> str:
    """Return the operator of a case; an expansion into other operators is about the one that it expands."""
    whole = name.split("_expanded")[0]
    return operators.get(whole, operators[name])


def _dtype(model: Any) -> str:
    values = [*inputs_of(model), *model.graph.output]
    return dtype_name(values[0].type) if values else ""


def _opset(model: Any) -> int:
    return next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
