"""What a package says of itself: where the model comes from, how good it was measured to be, what it takes and gives."""

from __future__ import annotations

import inspect
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.contracts.task import Task
from efflab.foundation.files import file_digest
from efflab.packaging.choice import Chosen
from efflab.packaging.model import TOLERANCES, ModelFile
from efflab.records.study import Study

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
KIND = "efflab export"
LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy", "efflab")
MEASURED = (
    "backend", "device", "batch_size", "machine", "n_seeds", "metric", "quality_difference", "quality_difference_low",
    "quality_difference_high", "quality_verdict", "latency_ms_p50", "latency_ms_p50_low", "latency_ms_p50_high",
    "speedup", "speedup_low", "speedup_high", "speed_verdict",
)  # fmt: skip


def provenance(
    chosen: Chosen, written: ModelFile, outputs: list[np.ndarray], split: str, examples: int
) -> dict[str, Any]:
    """Return all of it but the digests of the files; the same for the same artefact and study."""
    study, record, task = chosen.study, chosen.record, chosen.spec.task.load()
    relative, why = TOLERANCES[written.numbers]
    shapes = [["batch", *array.shape[1:]] for array in outputs]
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "study": study["name"],
        "variant": record["variant"],
        "baseline": record["baseline"],
        "steps": record["steps"],
        "seed": record["seed"],
        "weights_seed": chosen.spec.weights_seed,
        "stage": record["stages"]["artefact"],
        "task": {"name": chosen.spec.task.name, "settings": chosen.spec.task.settings, "digest": task.digest()},
        "metric": task.metric,
        "model": written.files[0],
        "form": chosen.artefact.form,
        "numbers": written.numbers,
        "inputs": written.inputs,
        "inputs_are": meaning(task),
        "outputs": [
            {"name": name, "shape": shape, "dtype": str(array.dtype)}
            for name, shape, array in zip(written.outputs, shapes, outputs, strict=True)
        ],
        "example": {"file": "example.npz", "split": split, "examples": examples},
        "tolerance": {"relative": relative, "of": "the largest output", "why": why},
        "measured": measured(study, chosen),
        "quality_of_this_seed": _quality_here(study, chosen),
        "work": record.get("work"),
        "efflab": study["efflab"],
        "commit": study["commit"],
        "machines": study["machines"],
        "versions": {**{name: version(name) for name in LIBRARIES}, "python": platform.python_version()},
    }


def meaning(task: Task) -> str:
    """Say how raw data became the inputs, as far as the task tells."""
    about = inspect.getdoc(type(task)) or ""
    return " ".join(filter(None, [task.prepared, " ".join(about.split())]))


def measured(study: Study, chosen: Chosen) -> list[dict[str, Any]]:
    """Return the variant's rows of the comparison, one for each backend and batch size; quality is a mean over seeds.

    `this_artefact` says whether the backend ran the very model that is packaged, or the variant in its other form.
    """
    from efflab.comparison.compare import rows

    record = chosen.record
    kept = [
        one
        for one in study["records"]
        if one["baseline"] == record["baseline"]
        and (one["variant"] == record["variant"] or one["role"] in ("baseline", "repeat"))
    ]
    part: Study = {**study, "records": kept}
    ran = {one["backend"] for one in kept if _same_artefact(one, chosen)}
    found = []
    for row in rows(part, []):
        if row.variant == record["variant"] and row.status == "ok":
            ends = row.quality.ends
            low, high = (ends.low, ends.high) if ends.known else (None, None)
            quality = {"quality": row.quality.value, "quality_low": low, "quality_high": high}
            measured = {name: row[name] for name in MEASURED}
            found.append({**measured, **quality, "this_artefact": row.place.backend in ran})
    return found


def _same_artefact(record: Any, chosen: Chosen) -> bool:
    same = record.get("stages", {}).get("artefact") == chosen.record["stages"]["artefact"]
    return bool(same and record["variant"] == chosen.record["variant"] and record["status"] == "ok")


def _quality_here(study: Study, chosen: Chosen) -> dict[str, float]:
    """Return the score of the packaged seed itself, for each backend."""
    wanted = (chosen.record["variant"], chosen.record["seed"])
    return {
        record["backend"]: record["quality"]["value"]
        for record in study["records"]
        if (record["variant"], record["seed"]) == wanted and "quality" in record
    }


def digests(folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return sha256 and size of each file."""
    found = {}
    for name in names:
        path = folder / name
        found[name] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
    return found
