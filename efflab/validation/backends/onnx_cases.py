"""Reads and writes the values of ONNX test cases (tensors, sequences, optionals), as ONNX's own runner lays them out.

A case is a folder: `model.onnx` and folders `test_data_set_0`, ... with `input_0.pb`, ... and `output_0.pb`, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class CaseData(NamedTuple):
    """Inputs of one call, and the outputs that are right."""

    inputs: list[Any]
    outputs: list[Any]


def write_case(folder: Path, model: Any, sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> None:
    """Write a model with its data sets."""
    from efflab.artefacts.graph_files import save_graph

    folder.mkdir(parents=True, exist_ok=True)
    save_graph(model, folder / "model.onnx")
    for number, (inputs, outputs) in enumerate(sets):
        data = folder / f"test_data_set_{number}"
        data.mkdir(exist_ok=True)
        for kind, values, infos in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
            for index, (value, info) in enumerate(zip(values, infos, strict=False)):
                proto = to_proto(value, info)
                (data / f"{kind}_{index}.pb").write_bytes(proto.SerializeToString())


def read_case(folder: Path) -> tuple[Any, list[CaseData]]:
    """Return a case's model and its data sets."""
    import onnx

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    given = inputs_of(model)
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        values = {
            kind: [from_bytes((data / f"{kind}_{index}.pb").read_bytes(), info.type) for index, info in enumerate(infos)
                   if (data / f"{kind}_{index}.pb").exists()]
            for kind, infos in (("input", given), ("output", model.graph.output))
        }  # fmt: skip
        sets.append(CaseData(values["input"], values["output"]))
    return model, sets


def inputs_of(model: Any) -> list[Any]:
    """Return the inputs of a graph that a caller gives: old graphs list their weights among them, too."""
    weights = {one.name for one in model.graph.initializer}
    return [one for one in model.graph.input if one.name not in weights]


def to_proto(value: Any, info: Any) -> Any:
    """Return a value as the protocol buffer of its declared type."""
    from onnx import OptionalProto, SequenceProto, TensorProto, numpy_helper

    if isinstance(value, (TensorProto, SequenceProto, OptionalProto)):
        return value
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    return numpy_helper.from_array(np.asarray(value), info.name)


def from_bytes(data: bytes, declared: Any) -> Any:
    """Return the value of a declared type that `data` holds: an array, a list of values, or None."""
    from onnx import OptionalProto, SequenceProto, TensorProto, numpy_helper

    kind = declared.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(OptionalProto.FromString(data))
    return numpy_helper.to_array(
        TensorProto.FromString(data)
    ).copy()  # runtimes that share memory want to be able to write


def dtype_name(declared: Any) -> str:
    """Return the element type of a declared type, as in `float32`, or `map` and the like."""
    import onnx

    kind = str(declared.WhichOneof("value"))
    if kind == "tensor_type":
        name = onnx.TensorProto.DataType.Name(declared.tensor_type.elem_type).lower()
        return {"float": "float32", "double": "float64"}.get(name, str(name))
    return dtype_name(getattr(declared, kind).elem_type) if kind in ("sequence_type", "optional_type") else kind
