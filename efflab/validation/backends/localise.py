"""Finds the first operator of a graph whose output leaves tolerance, and writes the smallest case that shows it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from efflab.artefacts.artefact import GRAPH
from efflab.artefacts.graph_files import save_graph
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.profiling.quality import parity
from efflab.validation.backends import graph_cutting
from efflab.validation.backends.onnx_cases import inputs_of, write_case
from efflab.validation.backends.pool import Opening, run_requests
from efflab.validation.backends.suites.models import LIMIT_S, REFERENCES

MOST_LEVELS = 6  # of operators before the guilty one that a fault of their fusion may take


class Located(NamedTuple):
    """Where a backend goes wrong in a model."""

    tensor: str
    operator: str
    nodes: tuple[str, ...]  # the operators of the smallest part that is wrong by itself; empty if none is
    sqnr_db: float | None
    confirmed: bool  # the tensor is wrong in the untouched model, too
    reproducer: str  # folder; "" if no part is wrong by itself
    steps: int

    def words(self) -> str:
        """Say it in a sentence."""
        level = "no finite error" if self.sqnr_db is None else f"{self.sqnr_db:.1f} dB"
        first = f"{self.operator} is the first operator out of tolerance (tensor {self.tensor!r}, {level})"
        sure = (
            "confirmed on the untouched model"
            if self.confirmed
            else "but right in the untouched model: an effect of cutting it"
        )
        if not self.nodes:
            return f"{first}, {sure}; no part of the graph is wrong by itself"
        part = self.nodes[0] if len(self.nodes) == 1 else f"{' + '.join(self.nodes)} together"
        return f"{first}, {sure}; {part} is wrong alone: {self.reproducer}"


def localise(
    opening: Opening, model_file: Path, inputs: Path, root: Path, min_sqnr_db: float, known: Sequence[np.ndarray] = ()
) -> Located | str:
    """Return where a backend first leaves the reference, or in words why that cannot be found.

    inputs: an .npz of one batch (arr_0, ...). Intermediate tensors come from an unoptimised reference runtime.
    known: the right outputs, where they are known; a runtime that gives others is no reference.
    """
    import onnx

    if registry.load("backends", opening.backend).takes != "onnx":
        return "only graphs can be cut: the backend takes modules"
    model = onnx.load(model_file)
    with np.load(inputs, allow_pickle=False) as file:
        given = dict(zip((one.name for one in inputs_of(model)), (file[name] for name in file.files), strict=True))
    bench = _Cutter(opening)
    tensors = graph_cutting.tensors_of(model)
    right = given | bench.reference(graph_cutting.shown(model, [name for name, _ in tensors]), given)
    pairs = zip((right[one.name] for one in model.graph.output), known, strict=False)
    if any((db := _sqnr(*pair)) is None or db < min_sqnr_db for pair in pairs):
        return "the runtime that shows inner tensors gives other outputs than the reference of this model"

    def level(part: Any, name: str, fed: dict[str, np.ndarray]) -> float | None:
        return _sqnr(bench.run(part, fed).get(name), right[name])

    def wrong(db: float | None) -> bool:
        return db is None or db < min_sqnr_db

    low, high = -1, len(tensors) - 1
    if not wrong(level(graph_cutting.leading_to(model, tensors[high][0]), tensors[high][0], given)):
        return "the last tensor is within tolerance"
    while high - low > 1:
        middle = (low + high) // 2
        name = tensors[middle][0]
        low, high = (
            (low, middle) if wrong(level(graph_cutting.leading_to(model, name), name, given)) else (middle, high)
        )
    name, node = tensors[high]
    whole = level(graph_cutting.shown(model, [name]), name, given)
    part, nodes = _smallest(model, node, right, lambda one, fed: wrong(level(one, name, fed)))
    folder = root / "reproducer"
    if part is not None:
        write_reproducer(
            folder, part, {one.name: right[one.name] for one in part.graph.input}, right[name], min_sqnr_db
        )
    at = level(graph_cutting.leading_to(model, name), name, given)
    return Located(name, node.op_type, nodes, at, wrong(whole), str(folder) if part is not None else "", bench.calls)


def _smallest(model: Any, node: Any, right: dict[str, np.ndarray], is_wrong: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the smallest part ending in `node` that is wrong on right inputs: itself, or with operators before it."""
    chosen = {list(model.graph.node).index(node)}
    for _ in range(MOST_LEVELS):
        part = graph_cutting.nodes_alone(model, sorted(chosen), right)
        if is_wrong(part, {one.name: right[one.name] for one in part.graph.input}):
            return part, tuple(model.graph.node[index].op_type for index in sorted(chosen))
        wider = chosen | graph_cutting.makers_of(model, chosen)
        if wider == chosen:
            break
        chosen = wider
    return None, ()


class _Cutter:
    """Runs parts of a graph on the backend under test and on a reference."""

    def __init__(self, opening: Opening):
        self.opening, self.calls = opening, 0

    def reference(self, model: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors of the first reference that runs the graph."""
        reasons = []
        for name, settings in REFERENCES:
            backend = registry.load("backends", name)
            if name != self.opening.backend and backend.takes == "onnx" and not backend.available():
                found, reason = self._run(Opening(name, settings, self.opening.threads, []), model, given)
                if found:
                    return found
                reasons.append(f"{name}: {reason}")
        raise RequestError(f"no reference runs the graph with all its tensors shown: {'; '.join(reasons)}")

    def run(self, model: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors that the backend gives; none where it fails."""
        return self._run(self.opening, model, given)[0]

    def _run(self, opening: Opening, model: Any, given: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
        self.calls += 1
        with tempfile.TemporaryDirectory(prefix="efflab-cut-") as scratch:
            folder = Path(scratch)
            save_graph(model, folder / GRAPH)
            names = [one.name for one in inputs_of(model)]
            np.savez(folder / "inputs.npz", *(given[name] for name in names))
            request = {
                "suite": "tensors", "name": f"cut {self.calls}", "folder": scratch,
                "inputs": str(folder / "inputs.npz"), "out": str(folder / "out.npz"),
            }  # fmt: skip
            (outcome,) = run_requests(opening, [request], 1, LIMIT_S)
            if outcome.verdict != "pass":
                return {}, outcome.reason
            with np.load(folder / "out.npz", allow_pickle=False) as file:
                return {one.name: file[f"arr_{index}"] for index, one in enumerate(model.graph.output)}, ""


def _sqnr(found: np.ndarray | None, wanted: np.ndarray) -> float | None:
    """Return signal over error in dB, 999 for equality; None where there is no answer, or one of another shape."""
    if found is None or found.shape != wanted.shape:
        return None
    value = float(parity([found.astype(float)], [wanted.astype(float)])["sqnr_db"] or 0.0)
    return min(999.0, value) if value > -999 else None


def write_reproducer(
    folder: Path, model: Any, given: dict[str, np.ndarray], wanted: np.ndarray, min_sqnr_db: float
) -> None:
    """Write a model with its inputs and the right output as an ONNX test case, and a script that runs it."""
    write_case(folder, model, [(list(given.values()), [wanted])])
    (folder / "reproduce.py").write_text(REPRODUCE.replace("MIN_SQNR_DB", f"{min_sqnr_db:g}"), encoding="utf-8")


REPRODUCE = '''"""Runs model.onnx on the inputs beside it and compares with the right output; needs onnx, numpy and a runtime.

python reproduce.py                    on ONNX Runtime
python reproduce.py PACKAGE.BACKEND    on any module with ONNX's backend interface (`prepare(model).run(inputs)`)
python reproduce.py output.npy         on an output that a program of yours wrote for test_data_set_0/input_*.pb

Exit code 1 if the output lies outside tolerance.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

here = Path(__file__).parent
data = here / "test_data_set_0"


def read(kind):
    """Return the tensors of a kind, in order."""
    files = sorted(data.glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())) for path in files]


inputs, (wanted,) = read("input"), read("output")
asked = sys.argv[1] if len(sys.argv) > 1 else "onnxruntime.backend"
if asked.endswith(".npy"):
    found = np.load(asked, allow_pickle=False)
else:
    found = np.asarray(importlib.import_module(asked).prepare(onnx.load(here / "model.onnx")).run(inputs)[0])
if found.shape != wanted.shape:
    sys.exit(f"WRONG on {asked}: shape {found.shape}, expected {wanted.shape}")
right, error = wanted.astype(float), found.astype(float) - wanted.astype(float)
noise, signal = float((error**2).sum()), float((right**2).sum())
sqnr_db = float("inf") if noise == 0 else 10 * np.log10(max(signal, 1e-300) / noise)
told = f"largest error {np.abs(error).max():.6g}, largest value {np.abs(right).max():.6g}, SQNR {sqnr_db:.1f} dB"
if not sqnr_db >= MIN_SQNR_DB:  # also where it is not a number
    sys.exit(f"WRONG on {asked}: {told}, wanted MIN_SQNR_DB dB")
print(f"right on {asked}: {told}")
'''
