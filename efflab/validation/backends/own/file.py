"""A model of the user's own: an ONNX file and the files of weights beside it, refused in words where it cannot be tried."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from efflab.artefacts.artefact import GRAPH, STRUCTURE, write_structure
from efflab.artefacts.graph_files import graphs_of, inner_graphs
from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import is_file
from efflab.validation.backends.onnx_cases import inputs_of

FEW_VALUES = 1024  # of a constant that may be a shape
# operators whose outputs are drawn: two runtimes never give the same, and neither is wrong
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


class OwnFile(NamedTuple):
    """A user's ONNX file: its model without the weights that lie elsewhere, and where those are, by location."""

    path: Path
    name: str
    model: Any
    data: dict[str, Path]


def read_own(path: Path) -> OwnFile:
    """Read a user's ONNX file; raise RequestError, with all that is wrong, if it cannot be validated."""
    import onnx

    if not path.is_file():
        what = "this is a folder; name an ONNX file" if path.is_dir() else "there is no such file"
        raise RequestError(Problem(str(path), what))
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise RequestError(Problem(str(path), f"cannot be read: {(error.strerror or str(error)).lower()}")) from error
    except Exception as error:
        raise RequestError(Problem(str(path), f"not an ONNX file ({type(error).__name__})")) from error
    given = inputs_of(model)
    if not given or any(one.type.WhichOneof("value") != "tensor_type" for one in given):
        raise RequestError(Problem(str(path), "not an ONNX file of a model that takes tensors"))
    data, lost = _data_files(model, path)
    problems = [*_strange(model), *lost]
    if problems:
        raise RequestError([Problem(str(path), what) for what in problems])
    return OwnFile(path, path.stem, model, data)


def read_all(paths: Sequence[Path], taken: Iterable[str]) -> list[OwnFile]:
    """Read the user's files, each with a name that none of `taken` and no other file has; raise RequestError."""
    found: list[OwnFile] = []
    problems: list[Problem] = []
    names = set(taken)
    for path in paths:
        try:
            one = read_own(path)
        except RequestError as error:
            problems += error.problems
            continue
        if any(os.path.samefile(path, other.path) for other in found):
            problems.append(Problem(str(path), "this model is given twice"))
            continue
        candidates = [path.stem, f"{path.resolve().parent.name}-{path.stem}"]
        candidates += [f"{path.stem}-{number}" for number in range(2, len(paths) + len(names) + 3)]
        name = next(name for name in candidates if name not in names)
        names.add(name)
        found.append(one._replace(name=name))
    if problems:
        raise RequestError(problems)
    return found


def place(own: OwnFile, folder: Path) -> None:
    """Copy a model with its files of weights to a folder, as an artefact; raise RequestError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(own.path, folder / GRAPH)
        for location, file in own.data.items():
            (folder / location).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / location)
    except OSError as error:
        what = f"efflab cannot copy it to {folder}: {(error.strerror or str(error)).lower()}"
        raise RequestError(Problem(str(own.path), what)) from error
    write_structure(folder, "onnx")


def place_for_references(own: OwnFile, folder: Path) -> Path:
    """Return the folder of a model as references run it: constants of a few bytes in it, not in a file beside it.

    ONNX Runtime reads no shapes from other files; the backend under test gets the model as it is, references need not.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    def few(tensor: Any) -> bool:
        return bool(tensor.data_location == onnx.TensorProto.EXTERNAL and math.prod(tensor.dims) <= FEW_VALUES)

    if not any(few(tensor) for tensor in all_tensors(own.model)):
        return folder
    target = folder.with_name(f"{folder.name}.for-references")
    place(own, target)
    copy = onnx.ModelProto()
    copy.CopyFrom(own.model)
    for tensor in all_tensors(copy):
        if few(tensor):
            load_external_data_for_tensor(tensor, str(folder))
    onnx.save(copy, target / GRAPH)
    return target


def all_nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes of a model, those of its inner graphs and functions included."""
    for holder in (model.graph, *model.functions):
        for graph in graphs_of(holder):
            yield from graph.node


def all_tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor that a model holds: weights, constants and attributes, at every depth."""
    graphs = [model.graph, *(graph for node in all_nodes(model) for graph in inner_graphs(node))]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in all_nodes(model):
        for one in node.attribute:
            yield from ([one.t] if one.HasField("t") else one.tensors)
            for sparse in [one.sparse_tensor] if one.HasField("sparse_tensor") else one.sparse_tensors:
                yield from (sparse.values, sparse.indices)


def _strange(model: Any) -> list[str]:
    """Return in words what keeps a model from being tried: inputs that cannot be made up, outputs not to be compared."""
    import onnx
    from onnx import TensorProto

    found = []
    for one in inputs_of(model):
        kind = one.type.tensor_type
        try:
            plain = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        except Exception:
            plain = None
        if plain is None or plain.kind not in "biuf" or plain.isbuiltin == 2:  # 2: of ml_dtypes, as float8_e5m2
            known = TensorProto.DataType.values()
            name = TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type in known else "unknown"
            found.append(f"its input {one.name!r} is of type {name}, of which efflab cannot make up values")
        elif not kind.HasField("shape"):
            found.append(f"its input {one.name!r} has no declared shape; declare one, free axes with a name each")
    for one in model.graph.output:
        kind = one.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            found.append(f"its output {one.name!r} is a {kind.removesuffix('_type')}; efflab compares tensors only")
        elif one.type.tensor_type.elem_type == TensorProto.STRING:
            found.append(f"its output {one.name!r} holds strings; efflab compares numbers only")
    drawn = sorted({node.op_type for node in all_nodes(model)} & RANDOM)
    if drawn:
        found.append(f"it draws random numbers ({', '.join(drawn)}), so no two runtimes give the same outputs")
    return found


def _data_files(model: Any, path: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the files of weights beside a model by location, and in words what is wrong with them."""
    from onnx import TensorProto

    found: dict[str, Path] = {}
    wrong: dict[str, str] = {}
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        told = {one.key: one.value for one in tensor.external_data}
        location = told.get("location", "")
        if location not in found and location not in wrong:
            file, what = _beside(path, location)
            if file is None:
                wrong[location] = what
            else:
                found[location] = file
        if location in found and location not in wrong:
            what = _too_short(tensor, told, found[location])
            if what:
                wrong[location] = what
    return found, list(wrong.values())


def _beside(path: Path, location: str) -> tuple[Path | None, str]:
    """Return the file of a location beside a model (or beside the file that a link leads to), or why there is none."""
    place = PurePosixPath(location)
    if not location:
        return None, "it has weights in a file beside it, and does not name that file"
    if place.is_absolute() or ".." in place.parts:
        return None, f"its weights lie in {location!r}, outside its folder, where no runtime reads them; save it anew"
    if str(place) in (GRAPH, STRUCTURE):
        return None, f"its weights lie in a file called {location!r}, a name that efflab needs; save it anew"
    bases = list(dict.fromkeys([path.parent, path.resolve().parent]))
    file = next((base / location for base in bases if is_file(base / location)), None)
    if file is None:
        return None, f"its weights lie in {location!r}, which is missing: there is no file {bases[0] / location}"
    if not os.access(file, os.R_OK):
        return None, f"its weights lie in {file}, which cannot be read: permission denied"
    return file, ""


def _too_short(tensor: Any, told: dict[str, str], file: Path) -> str:
    """Say that a file ends before the values of a tensor do; "" where it does not."""
    import onnx

    try:
        start, length = int(told.get("offset") or 0), int(told["length"]) if told.get("length") else None
        if start < 0 or (length is not None and length < 0):
            raise ValueError
    except ValueError:
        return f"the place of {tensor.name!r} in {file} is not written as whole numbers of bytes"
    if length is None:
        bits = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.get(
            onnx.TensorProto.DataType.Name(tensor.data_type)
        )
        bits = bits or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        length = -(-math.prod(tensor.dims) * bits // 8)
    size = file.stat().st_size
    if start + length <= size:
        return ""
    return f"{file} is too short: it has {size:,} bytes, and {tensor.name!r} ends at byte {start + length:,}"
