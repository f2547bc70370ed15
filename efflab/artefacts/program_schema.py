"""What the JSON of a torch.export file may say: names, numbers, sizes and known operators, and nothing that could run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from efflab.artefacts.program_expressions import plain_guard, plain_size
from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.outside import spelled
from efflab.foundation.wording import shown

# PyTorch looks targets up as attributes, from `torch` and `operator` on, and calls what it finds
OPERATOR = re.compile(r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision)\.\w+\.\w+")
SYMBOLIC = {
    *(f"_operator.{name}" for name in (
        "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lshift", "lt", "mod", "mul", "ne", "neg", "or_", "pos",
        "pow", "rshift", "sub", "truediv",
    )),
    "math.ceil", "math.floor", "math.trunc", "torch._sym_sqrt", "torch.sym_float", "torch.sym_int", "torch.sym_ite",
    "torch.sym_max", "torch.sym_min", "torch.sym_not", "torch.sym_sqrt", "torch.sym_sum",
}  # fmt: skip
CONTROL_FLOW = {
    f"torch.ops.higher_order.{name}"
    for name in ("associative_scan", "cond", "invoke_subgraph", "map_impl", "out_dtype", "scan", "while_loop")
} | {f"torch.ops.higher_order.wrap_with_{name}" for name in ("autocast", "set_grad_enabled")}
BATCHING = {
    f"torch._functorch.predispatch.{name}"
    for name in ("_add_batch_dim", "_remove_batch_dim", "_vmap_decrement_nesting", "_vmap_increment_nesting")
} | {"torch._functorch.predispatch.lazy_load_decompositions"}
DOTTED = re.compile(r"[\w\-.@]{0,1000}")  # of parameters, layers and types: no letter that could end a text in Python
VERSION = re.compile(r"[\w.+<=>\-]{0,100}")
FLOATS = {"Infinity", "-Infinity", "NaN"}
KEPT = ("nn_module_stack", "torch_fn", "stack_trace")  # of what is told of a node; PyTorch keeps these as text
MOST_DEPTH = 100
EVALUATED = ("expr_str", "target", "as_operator")  # these are looked up or evaluated; lists of them would be, too

Path = tuple[str | int, ...]  # keys and places, from the whole file on
Rewrite = Callable[[str], str]  # returns a text as it may be loaded; raises ValueError, with what is wrong with it


def checked_program(model: Any, place: str) -> Any:
    """Return the content of a model's JSON in a form that runs nothing; raise RequestError, with the place in it, for another.

    Which operators exist must be asked of torch afterwards (`operators`).
    """
    return _checked(model, (), place)


def operators(model: Any) -> set[str]:
    """Return the names of the operators of a checked model's JSON, such as `torch.ops.aten.linear.default`."""
    return {text for key, text in _texts(model) if key in ("target", "as_operator") and OPERATOR.fullmatch(text)}


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _checked(value: Any, path: Path, place: str) -> Any:
    if len(path) > MOST_DEPTH:
        raise RequestError(Problem(place, f"is nested deeper than {MOST_DEPTH} levels"))
    if path and path[-1] in EVALUATED and not isinstance(value, str):
        raise _wrong(path, place, "must be text")
    if isinstance(value, dict):
        return {
            _name(key, path, place): _checked(inner, (*path, key), place) for key, inner in _told(value, path).items()
        }
    if isinstance(value, list):
        return [_checked(inner, (*path, number), place) for number, inner in enumerate(value)]
    if isinstance(value, str):
        return _text(value, path, place)
    return value


def _of_node(path: Path) -> Path:
    """Return the part of a path that lies within a node of a graph, without the node's own place; empty outside of nodes."""
    places = [at for at in range(1, len(path)) if path[at - 1] == "nodes" and isinstance(path[at], int)]
    return path[places[-1] + 1 :] if places else ()


def _told(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a mapping, without what nobody needs to run a program: annotations, and where a node came from."""
    if _of_node(path) == ("metadata",) or path == ("graph_module", "metadata"):
        return {key: inner for key, inner in value.items() if key in KEPT and isinstance(inner, str)}
    return value


def _name(key: str, path: Path, place: str) -> str:
    try:
        return key if path == ("range_constraints",) and plain_size(key) else _dotted(key)
    except ValueError as error:
        raise _wrong(path, place, f"{shown(key)} {error}") from error


def _text(text: str, path: Path, place: str) -> str:
    if {"as_custom_obj", "custom_obj", "custom_obj_values"} & set(path):
        raise _wrong(path, place, "is an object of a class of its own; export plain tensors only")
    key = next((one for one in reversed(path) if isinstance(one, str)), "")
    within = _of_node(path)
    if within[:1] == ("metadata",) or (within and key in ("as_string", "as_strings")):
        return text  # PyTorch quotes it wherever it writes it
    try:
        return RULES.get(key, _identifier)(text)
    except ValueError as error:
        raise _wrong(path, place, f"{shown(text)} {error}") from error


def _wrong(path: Path, place: str, what: str) -> RequestError:
    return RequestError(Problem(f"{place}: {spelled(path)}", f"{what}; it could run code, so the file is not loaded"))


def _identifier(text: str) -> str:
    if text and not text.isidentifier():
        raise ValueError("is no plain name")
    return text


def _dotted(text: str) -> str:
    if not DOTTED.fullmatch(text):
        raise ValueError("is no plain name")
    return text


def _version(text: str) -> str:
    if not VERSION.fullmatch(text):
        raise ValueError("is no version")
    return text


def _float(text: str) -> str:
    if text not in FLOATS:
        raise ValueError("is no number")
    return text


def _operator(text: str) -> str:
    if not OPERATOR.fullmatch(text) and text not in SYMBOLIC | CONTROL_FLOW | BATCHING:
        raise ValueError("is no operator of PyTorch that computes with tensors or sizes")
    return text


def _tree(text: str) -> str:
    """Return the description of nested inputs or outputs; one that names enumerations or factories would import modules."""
    try:
        found = json.loads(text)
        if not _is_tree(found[1]):
            raise ValueError("describes inputs or outputs by more than names and nesting")
    except (TypeError, KeyError, IndexError, RecursionError) as error:
        raise ValueError("is no description of nested inputs or outputs") from error
    return json.dumps(found)


def _is_tree(node: Any) -> bool:
    kind, context = node["type"], node["context"]
    if kind is not None and not (isinstance(kind, str) and DOTTED.fullmatch(kind)):
        return False
    return _is_plain(_content(context)) and all(map(_is_tree, node["children_spec"]))


def _content(context: Any) -> Any:
    """Return what a context holds: JSON within the JSON, or the name of a type."""
    try:
        return json.loads(context) if isinstance(context, str) else context
    except ValueError:
        return context


def _is_plain(content: Any) -> bool:
    if isinstance(content, list):
        return all(map(_is_plain, content))
    if isinstance(content, str):
        return bool(DOTTED.fullmatch(content))
    return content is None or isinstance(content, bool | int)


RULES: dict[str, Rewrite] = {
    "expr_str": plain_size,
    "guards_code": plain_guard,
    "target": _operator,
    "as_operator": _operator,
    "in_spec": _tree,
    "out_spec": _tree,
    "as_float": _float,
    "as_floats": _float,
    "min_val": _float,
    "max_val": _float,
    "torch_version": _version,
    "fqn": _dotted,
    "parameter_name": _dotted,
    "buffer_name": _dotted,
    "tensor_constant_name": _dotted,
    "field_names": _identifier,
}
