"""The float graph that quantisers start from: a copy in float32, its weights stored and nodes named, at a known opset."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.graph_files import graphs_of
from efflab.foundation.errors import RequestError
from efflab.foundation.quiet import quiet
from efflab.foundation.wording import one_line
from efflab.model_surgery.graphs.onnx_graph import attributes, store_densely

if TYPE_CHECKING:
    import numpy as np

PER_CHANNEL_OPSET = 13  # QuantizeLinear has an axis from here on
LEAST_IR = 4  # stored weights need not be inputs from here on
HALVES = ("FLOAT16", "BFLOAT16")


def load_float_graph(path: Path, opset: int = PER_CHANNEL_OPSET) -> Any:
    """Return the ONNX file's model, made ready to be quantised; it computes what the file computes, in float32.

    Weights become initializers whatever form they had, 16-bit floats become 32-bit ones, every node has a name of its own,
    biases of Gemm are vectors, and the opset is at least `opset`. Raises RequestError for a file that cannot be read, or
    not be brought to that opset.
    """
    from onnx import inliner

    model = load_whole(path)
    if model.functions:
        model = inliner.inline_local_functions(model)
    _store_constants(model.graph)
    _free_inputs(model)
    model = _at_opset(model, opset)
    _store_constants(model.graph)
    widen(model)
    name_nodes(model.graph)
    straighten_biases(model.graph)
    return model


def load_whole(path: Path) -> Any:
    """Return the model of an ONNX file with its external data; raise RequestError naming what is missing."""
    import onnx

    try:
        return onnx.load(str(path))
    except FileNotFoundError as error:
        raise RequestError(f"{path.name} keeps weights in a file that is missing: {one_line(error)}") from error
    except Exception as error:  # protobuf's and onnx's errors have no common, public base
        raise RequestError(f"{path.name} is no readable ONNX file: {one_line(error)}") from error


def prepare(source: Path, target: Path, opset: int = PER_CHANNEL_OPSET) -> None:
    """Write the float graph of `source` with inferred shapes and folded constants, which quantisation starts from."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = load_float_graph(source, opset)
    with tempfile.TemporaryDirectory() as scratch, quiet():
        ready = Path(scratch) / "ready.onnx"
        onnx.save(model, str(ready))
        try:
            quant_pre_process(str(ready), str(target), skip_symbolic_shape=True)
        except Exception:  # ONNX Runtime's optimiser stumbles over some operators; they need no optimising here
            quant_pre_process(str(ready), str(target), skip_symbolic_shape=True, skip_optimization=True)
    model = onnx.load(str(target))
    name_nodes(model.graph)
    straighten_biases(model.graph)
    onnx.save(model, str(target))


def opset_of(model: Any) -> int:
    """Return the opset of ONNX's own operators."""
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=1)


def _at_opset(model: Any, least: int) -> Any:
    from onnx import version_converter

    found = opset_of(model)
    if found >= least:
        return model
    try:
        with quiet():
            return version_converter.convert_version(model, least)
    except Exception as error:  # RuntimeError or ConvertError, as the operator has it
        way_out = f"export the model again with opset {least} or newer"
        what = f"this step needs opset {least}, the file has {found}, and onnx cannot convert it ({one_line(error)})"
        raise RequestError(f"{what}; {way_out}") from error


def _store_constants(graph: Any) -> None:
    """Turn Constant nodes of the main graph into initializers."""
    store_densely(graph)
    kept = []
    for node in graph.node:
        value = attributes(node).get("value") if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
            continue
        stored = graph.initializer.add()
        stored.CopyFrom(value)
        stored.name = node.output[0]  # one that is an output stays one: initializers may be outputs
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _free_inputs(model: Any) -> None:
    """Take stored weights out of the graph's inputs, where files of IR version 3 list them."""
    stored = {one.name for one in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in stored]
    if len(given) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(given)
    model.ir_version = max(model.ir_version, LEAST_IR)


def widen(model: Any) -> None:
    """Make every 16-bit floating tensor of a model a 32-bit one, its inputs and outputs included, in place."""
    from onnx import TensorProto

    halves = {getattr(TensorProto, name) for name in HALVES}
    casts = _casts_between_floats(model)
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            _widen_tensor(tensor, halves)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in halves:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for item in node.attribute:
                if item.HasField("t"):
                    _widen_tensor(item.t, halves)
                for tensor in item.tensors:
                    _widen_tensor(tensor, halves)
                # Cast's `to`, and `dtype` of nodes that make numbers
                if item.name in ("to", "dtype") and item.i in halves:
                    item.i = TensorProto.FLOAT
    _pass_over(model.graph, casts)


def _casts_between_floats(model: Any) -> set[str]:
    """Return what the Cast nodes of the main graph give that turn one floating type of up to 32 bits into another."""
    import onnx
    from onnx import TensorProto

    floats = {TensorProto.FLOAT, *(getattr(TensorProto, name) for name in HALVES)}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and attributes(node)["to"] in floats]
    if not casts:
        return set()
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # what is not inferred stays as it is, a cast of float32 to float32
        graph = model.graph
    types = {one.name: one.type.tensor_type.elem_type for one in (*graph.value_info, *graph.input, *graph.output)}
    types |= {one.name: one.data_type for one in graph.initializer}
    return {node.output[0] for node in casts if types.get(node.input[0]) in floats}


def _pass_over(graph: Any, names: set[str]) -> None:
    """Take the nodes of one input that give these tensors out of a graph; what they were given takes their place."""
    if not names:
        return
    results, inner = {value.name for value in graph.output}, read_in_bodies(graph)
    given: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [given.get(name, name) for name in node.input]
        if node.output[0] in names - inner and node.output[0] not in results:
            given[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    last = {node.output[0]: node for node in graph.node if node.op_type == "Cast" and node.output[0] in names & results}
    for name, node in last.items():
        _rename_result(graph, node, name)


def _rename_result(graph: Any, node: Any, name: str) -> None:
    """Take out a node that only hands on a tensor as the graph's output, if that tensor can have the output's name."""
    source = node.input[0]
    maker = next((one for one in graph.node if source in one.output), None)
    if maker is None or source in {value.name for value in graph.output} | read_in_bodies(graph):
        return
    for one in graph.node:
        one.input[:] = [name if each == source else each for each in one.input]
        one.output[:] = [name if each == source else each for each in one.output]
    graph.node.remove(node)


def read_in_bodies(graph: Any) -> set[str]:
    """Return the names that bodies of loops and branches read, which may be tensors of the graph around them."""
    _, *bodies = graphs_of(graph)
    return {name for body in bodies for node in body.node for name in node.input}


def _widen_tensor(tensor: Any, halves: set[int]) -> None:
    import numpy as np
    from onnx import numpy_helper

    if tensor.data_type in halves:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def name_nodes(graph: Any) -> None:
    """Give every node without a name, or with another's name, one of its own: steps tell nodes apart by their names."""
    taken: set[str] = set()
    nodes = [node for one in graphs_of(graph) for node in one.node]
    given = {node.name for node in nodes}
    for place, node in enumerate(nodes):
        if not node.name or node.name in taken:
            name = f"{node.op_type}_{place}"
            while name in given or name in taken:
                name += "_"
            node.name = name
        taken.add(node.name)


def straighten_biases(graph: Any) -> None:
    """Make the stored biases of Gemm vectors: rows (1, n) and single numbers mean the same, and quantisers trip over them."""
    import numpy as np
    from onnx import numpy_helper

    stored = {one.name: one for one in graph.initializer}
    apart: list[tuple[Any, np.ndarray]] = []
    for node in graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] not in stored:
            continue
        if node.input[1] not in stored:
            continue
        outputs = stored[node.input[1]].dims[0 if attributes(node).get("transB", 0) else 1]
        value = numpy_helper.to_array(stored[node.input[2]])
        if value.shape == (outputs,):
            continue
        if not _is_row(value, outputs):
            apart.append((node, value))
            continue
        name = f"{node.input[2]}.{node.name or node.output[0]}.row"
        row = np.ascontiguousarray(np.broadcast_to(value.reshape(-1), (outputs,)))
        graph.initializer.append(numpy_helper.from_array(row, name))
        stored[name] = graph.initializer[-1]
        node.input[2] = name
    for node, value in apart:
        _add_after(graph, node, value)
    used = {name for one in graphs_of(graph) for node in one.node for name in node.input}
    used |= {value.name for value in graph.output}
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)


def _add_after(graph: Any, node: Any, value: np.ndarray) -> None:
    """Add a bias that is no row after a Gemm in place of in it: no quantiser takes one."""
    import numpy as np
    from onnx import helper, numpy_helper

    name, product = f"{node.name}.bias", f"{node.output[0]}.product"
    factor = np.asarray(attributes(node).get("beta", 1.0), value.dtype)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value * factor), name))
    added = helper.make_node("Add", [product, name], [node.output[0]], f"{node.name}_Add")
    graph.node.insert(list(graph.node).index(node) + 1, added)
    node.output[0] = product
    del node.input[2:]


def _is_row(value: np.ndarray, outputs: int) -> bool:
    return value.size in (1, outputs) and (value.ndim == 0 or value.shape[-1] in (1, outputs)) and value.ndim <= 2
