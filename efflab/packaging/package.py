"""Writes the package of a variant: the model, an example with its outputs, a script that needs no efflab, and provenance."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.artefact import Artefact
from efflab.contracts.task import SplitName
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.foundation.wording import one_line
from efflab.packaging.choice import Chosen, Wanted, choose, store_of
from efflab.packaging.model import write_model
from efflab.packaging.provenance import KIND, digests, provenance
from efflab.records.study import Study

if TYPE_CHECKING:
    import numpy as np

SCRIPT, EXAMPLE, ABOUT = "run.py", "example.npz", "provenance.json"
SPLIT: SplitName = "validation"  # never the test split: it is for the final score only
EXAMPLES = 8
REFERENCE = {"module": "torch", "onnx": "onnxruntime"}  # the backend that the script's library is
LIMIT_S = 600.0
# runs a script in a process where efflab cannot be imported
BARE = "import runpy, sys; sys.modules['efflab'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def export_package(study: Study, wanted: Wanted, folder: Path, force: bool = False) -> dict[str, Any]:
    """Write the package into `folder` and return its provenance; `force` replaces an earlier export there.

    It is written beside its place, tried in a process without efflab, and renamed. Raises RequestError for a variant
    that is not there or cannot be packaged, and for a folder that holds something else.
    """
    final = folder.resolve()
    _refuse_to_overwrite(final, folder, force)
    chosen = choose(study, wanted, store_of(wanted.named))
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        about = _write(chosen, part)
        _try(part, chosen)
        _put(part, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return about


def default_folder(study: Study, variant: str) -> Path:
    """Return where a package goes if the user names no folder: a name that every file system and shell takes."""
    return Path("exports") / _plain(study["name"], "study") / _plain(variant, "variant")


def _plain(name: str, otherwise: str) -> str:
    """Return a name as one folder can have it: a study that somebody gave must not lead elsewhere."""
    return "".join(one if one.isalnum() or one in "-_.=" else "-" for one in name).strip("-.")[:200] or otherwise


def _refuse_to_overwrite(final: Path, shown: Path, force: bool) -> None:
    """Raise RequestError if the folder holds anything but an earlier export that may be replaced."""
    if not final.exists():
        return
    if not final.is_dir():
        raise RequestError(f"{shown} is a file; a package is a folder")
    present = {str(path.relative_to(final)) for path in final.rglob("*") if path.is_file() or path.is_symlink()}
    if not present and not any(final.iterdir()):
        return
    known = _files_of_an_export(final)
    if not known:
        raise RequestError(f"{shown} holds other files; name an empty or new folder with --out")
    others = sorted(name for name in present - known if "__pycache__" not in name)
    if others:
        told = ", ".join(others[:3]) + (" and more" if len(others) > 3 else "")
        raise RequestError(f"{shown} holds {told} beside an earlier export; move that away or name another --out")
    if not force:
        raise RequestError(f"{shown} holds an earlier export; --force replaces it")


def _files_of_an_export(folder: Path) -> set[str]:
    """Return the files that an earlier export wrote into a folder; nothing if it is none."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return {ABOUT, *about["files"]} if about["kind"] == KIND else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _write(chosen: Chosen, folder: Path) -> dict[str, Any]:
    import numpy as np

    from efflab.artefacts.interface import as_port, graph_ports
    from efflab.contracts.examples import first_inputs

    split = chosen.spec.task.load().split(SPLIT)
    count = chosen.artefact.interface.batch or EXAMPLES
    inputs = tuple(np.ascontiguousarray(array) for array in first_inputs(split, count))
    if chosen.artefact.form == "onnx":  # in the types that the graph takes
        ports, _ = graph_ports(chosen.artefact.onnx)
        inputs = tuple(as_port(array, port) for array, port in zip(inputs, ports, strict=True))
    if chosen.artefact.form == "module":  # efflab casts the inputs of modules; a package takes float32
        inputs = tuple(array.astype(np.float32) if array.dtype.kind == "f" else array for array in inputs)
    outputs = reference_outputs(chosen.artefact, inputs)
    written = write_model(chosen.artefact, inputs, len(outputs), folder)
    arrays = {f"input_{index}": array for index, array in enumerate(inputs)}
    np.savez(folder / EXAMPLE, **arrays, **{f"output_{index}": array for index, array in enumerate(outputs)})  # type: ignore[arg-type]
    shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / SCRIPT)
    about = provenance(chosen, written, outputs, SPLIT, len(inputs[0]))
    about["files"] = digests(folder, (*written.files, EXAMPLE, SCRIPT))
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def reference_outputs(artefact: Artefact, inputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Return what efflab's own backend of the artefact's form gives for the inputs, as a list of arrays."""
    from efflab.profiling.quality import leaves, predict

    backend = registry.load("backends", REFERENCE[artefact.form])()
    try:
        session = backend.prepare(artefact, inputs, 1)
        return [*leaves(predict(session, inputs, len(inputs[0])))]
    except (MemoryError, RequestError):
        raise
    except Exception as error:  # a store of others may hold anything that is not a model
        raise RequestError(f"the stored model does not run on {len(inputs[0])} examples ({one_line(error)})") from error


def _try(folder: Path, chosen: Chosen) -> None:
    """Run the package's script on its example where efflab cannot be imported; raise RequestError if it fails."""
    # -B: bytecode would be left in the package
    command = [sys.executable, "-B", "-c", BARE, str(folder / SCRIPT)]
    what = f"the package of {chosen.record['variant']} does not run by itself"
    try:
        done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RequestError(f"{what}: its example takes longer than {LIMIT_S:.0f} s") from error
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise RequestError(f"{what}: {last[0]}")


def _put(part: Path, final: Path) -> None:
    """Rename a finished folder to its place; what was there goes only then."""
    if not final.exists() or not any(final.iterdir()):
        part.replace(final)
        return
    old = part.with_suffix(".old")
    final.replace(old)
    try:
        part.replace(final)
    except OSError:
        old.replace(final)
        raise
    shutil.rmtree(old, ignore_errors=True)
