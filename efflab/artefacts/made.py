"""Stores what a technique made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from efflab.artefacts.artefact import GRAPH, WEIGHTS, Artefact, Form, save_module, write_structure
from efflab.artefacts.graph_files import external_files
from efflab.foundation.files import file_digest


def store_result(name: str, gives: Form, model: Any, structure: Any, parent: Artefact, folder: Path) -> Artefact:
    """Store in `folder` the model of form `gives` that the technique `name` made of `parent`, and return it."""
    if gives == "onnx":
        store_onnx(Path(model), folder)
    else:
        edits = list(parent.structure["edits"])
        if structure is not None:
            edits.append({"technique": name, "structure": structure})
        save_module(model.eval(), parent.builder, edits, folder)
    return Artefact(folder, gives)


def store_onnx(source: Path, folder: Path) -> None:
    """Store an ONNX file and the files beside it that hold its weights."""
    if source.parent != folder or source.name != GRAPH:
        shutil.copyfile(source, folder / GRAPH)
        for file in external_files(source):
            target = folder / file.relative_to(source.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    write_structure(folder, "onnx")


def content(folder: Path) -> str:
    """Return what tells two stored models apart: digests of their files, and their structure."""
    structure = Artefact.open(folder).structure
    graph = structure["form"] == "onnx"
    files = [folder / GRAPH, *external_files(folder / GRAPH)] if graph else [folder / WEIGHTS]
    return "".join(file_digest(file) for file in files) + str(structure.get("edits"))
