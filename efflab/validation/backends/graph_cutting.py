"""Cuts ONNX graphs: the part that leads to a tensor, a few nodes alone, and a whole graph that shows more tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def tensors_of(model: Any) -> list[tuple[str, Any]]:
    """Return (first output, node) of every node that computes, in the order of the graph."""
    return [(node.output[0], node) for node in model.graph.node if node.op_type != "Constant" and node.output[0]]


def shown(model: Any, names: Iterable[str], alone: bool = False) -> Any:
    """Return a copy of a model that also gives these tensors; `alone`: only these."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = _infos(model)
    if alone:
        del copy.graph.output[:]
    there = {one.name for one in copy.graph.output}
    copy.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in names if name not in there)
    return copy


def leading_to(model: Any, name: str) -> Any:
    """Return the part of a model that a tensor depends on, with that tensor as its only output."""
    makers = {output: index for index, node in enumerate(model.graph.node) for output in node.output if output}
    wanted, waiting = set[int](), [name]
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in wanted:
            wanted.add(index)
            waiting += _read_by(model.graph.node[index])
    return _kept(shown(model, [name], alone=True), wanted)


def nodes_alone(model: Any, indices: Sequence[int], values: Mapping[str, np.ndarray]) -> Any:
    """Return a model of some nodes; what they read and do not make is its input, typed as its value in `values`."""
    nodes = [model.graph.node[index] for index in sorted(indices)]
    made = {output for node in nodes for output in node.output}
    weights = {one.name for one in model.graph.initializer}
    constants = {node.output[0]: index for index, node in enumerate(model.graph.node) if node.op_type == "Constant"}
    read = dict.fromkeys(name for node in nodes for name in _read_by(node) if name not in made | weights)
    kept = {*indices, *(constants[name] for name in read if name in constants)}
    part = _kept(shown(model, [nodes[-1].output[0]], alone=True), kept)
    del part.graph.input[:]
    for name in read:
        if name not in constants:
            part.graph.input.append(_info(name, values[name]))
    del part.graph.output[:]
    part.graph.output.append(_info(nodes[-1].output[0], values[nodes[-1].output[0]]))
    return part


def _info(name: str, value: np.ndarray) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def makers_of(model: Any, indices: Iterable[int]) -> set[int]:
    """Return the nodes that make what these nodes read."""
    makers = {output: index for index, node in enumerate(model.graph.node) for output in node.output if output}
    return {makers[name] for index in indices for name in _read_by(model.graph.node[index]) if name in makers}


def _kept(model: Any, indices: set[int]) -> Any:
    """Return the model with these nodes, and only the weights and inputs that they read."""
    nodes = [node for index, node in enumerate(model.graph.node) if index in indices]
    read = {name for node in nodes for name in _read_by(node)}
    weights = [one for one in model.graph.initializer if one.name in read]
    inputs = [one for one in model.graph.input if one.name in read]
    for field, values in (("node", nodes), ("initializer", weights), ("input", inputs), ("value_info", [])):
        copies = [type(one).FromString(one.SerializeToString()) for one in values]
        del getattr(model.graph, field)[:]
        getattr(model.graph, field).extend(copies)
    # runtimes refuse operator sets that they do not know, though no operator is of them
    used = {"", "ai.onnx"} | _domains(nodes) | {function.domain for function in model.functions}
    opsets = [(one.domain, one.version) for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    for domain, version in opsets:
        model.opset_import.add(domain=domain, version=version)
    return model


def _domains(nodes: Iterable[Any]) -> set[str]:
    found = set()
    for node in nodes:
        found.add(node.domain)
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                found |= _domains(graph.node)
    return found


def _read_by(node: Any) -> list[str]:
    """Return the tensors that a node reads, those of its inner graphs included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            inside = {output for inner in graph.node for output in inner.output} | {one.name for one in graph.input}
            names += [name for inner in graph.node for name in _read_by(inner) if name not in inside]
    return names


def _infos(model: Any) -> dict[str, Any]:
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # a graph whose shapes cannot be inferred can still be cut
        inferred = model
    return {one.name: one for one in (*inferred.graph.value_info, *inferred.graph.output)}
