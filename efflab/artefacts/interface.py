"""What a model takes and gives: its inputs and outputs by name, element type and shape; found once, kept with the artefact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from efflab.artefacts.graph_files import read_graph
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

MOST_INPUTS = 6  # inputs that are matched by type and shape; of more, the names must tell


class Port(NamedTuple):
    """One input or output. `shape` holds None for a free axis, and is None where even the number of axes is unknown."""

    name: str
    dtype: str  # numpy's name of the element type, or what stands there in its place, such as `sequence`
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        """Return the port as messages show it: `logits float32 (N, 10)`."""
        axes = "" if self.shape is None else f" ({', '.join('?' if one is None else str(one) for one in self.shape)})"
        return f"{self.name} {self.dtype}{axes}".strip()


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model, which output is scored, and how many examples one call takes."""

    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    scored: int | None = None  # place of the output that the task reads; None: the task reads them all
    batch: int | None = None  # examples in one call, where the model takes no other number

    def as_data(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return asdict(self) | {side: [list(port) for port in getattr(self, side)] for side in ("inputs", "outputs")}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Interface:
        """Return what `as_data` gave."""
        sides = {side: tuple(_port(one) for one in data.get(side, ())) for side in ("inputs", "outputs")}
        return cls(**sides, scored=data.get("scored"), batch=data.get("batch"))


def _port(data: Sequence[Any]) -> Port:
    name, dtype, shape = data
    return Port(name, dtype, None if shape is None else tuple(shape))


def leaves(tree: Any) -> list[Any]:
    """Return the arrays (or tensors) of nested outputs in order, without what is None."""
    return [leaf for _, leaf in named_leaves(tree)]


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Return (name, array) for each array of nested outputs: mappings, lists, tuples, dataclasses; what is none is left out.

    A name is the path to it, such as `logits` or `heads.1`; a single array that stands alone has the name "".
    """
    return list(_walk(tree, ""))


def _walk(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    if tree is None:
        return
    parts: Any = None
    if isinstance(tree, Mapping):
        parts = tree.items()
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = zip(tree._fields, tree, strict=True)
    elif isinstance(tree, list | tuple):
        parts = enumerate(tree)
    elif is_dataclass(tree) and not isinstance(tree, type):
        parts = ((one.name, getattr(tree, one.name)) for one in fields(tree))
    if parts is None:
        if hasattr(tree, "shape"):  # names and plain numbers beside the arrays are no outputs: graphs do not have them
            yield path, tree
        return
    for key, part in parts:
        yield from _walk(part, f"{path}.{key}" if path else str(key))


def output_ports(outputs: Any, batch: int) -> tuple[Port, ...]:
    """Return the ports of outputs that one call on `batch` examples gave; first axes of that length are free."""
    return tuple(_seen(name or "output", leaf, batch) for name, leaf in named_leaves(outputs))


def input_ports(names: Sequence[str], arrays: Sequence[Any]) -> tuple[Port, ...]:
    """Return the ports of a module's inputs, as they were given."""
    return tuple(_seen(name, array, len(array)) for name, array in zip(names, arrays, strict=True))


def _seen(name: str, leaf: Any, batch: int) -> Port:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None:
        return Port(name, type(leaf).__name__, ())
    sides = tuple(int(side) for side in shape)
    free = (None, *sides[1:]) if sides and sides[0] == batch else sides
    return Port(name, str(dtype).removeprefix("torch."), free)


def graph_ports(path: Path) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return the inputs (stored weights left out) and the outputs of an ONNX file; raise RequestError if it cannot be read."""
    graph = read_graph(path).graph
    stored = {one.name for one in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    given = tuple(_declared(value) for value in graph.input if value.name not in stored)
    return given, tuple(_declared(value) for value in graph.output)


def _declared(value: Any) -> Port:
    from onnx import helper

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Port(value.name, (kind or "nothing").removesuffix("_type"), None)
    tensor = value.type.tensor_type
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "unknown"
    if not tensor.HasField("shape"):
        return Port(value.name, dtype, None)
    return Port(
        value.name, dtype, tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    )


def fixed_batch(ports: Sequence[Port]) -> int | None:
    """Return the number of examples that a call takes if the inputs fix it, else None."""
    first = {port.shape[0] for port in ports if port.shape}
    (length,) = first if len(first) == 1 else (None,)
    return length


def match_inputs(ports: Sequence[Port], arrays: Sequence[np.ndarray], names: Sequence[str] = ()) -> list[int]:
    """Return which of the task's arrays each port takes: by name where both sides have names, else by type and shape.

    Raises RequestError, with both sides in words, where they do not fit, or fit in several ways.
    """
    count = len(arrays)
    task = ", ".join(str(port) for port in _task_ports(arrays, names))
    model = ", ".join(map(str, ports))
    sides = f"the model takes {model or 'nothing'}; the task gives {task}"
    if len(ports) != count:
        spare = [name for name in names if name not in {port.name for port in ports}]
        known = names and len(spare) == count - len(ports)
        hint = (
            f"; it has no {' and no '.join(spare)}: leave that out with `inputs` in the task's settings"
            if known
            else ""
        )
        raise RequestError(f"the model takes {len(ports)} inputs, the task gives {count}: {sides}{hint}")
    if names and sorted(names) == sorted(port.name for port in ports):
        order = [list(names).index(port.name) for port in ports]
        if all(_takes(port, arrays[place]) for port, place in zip(ports, order, strict=True)):
            return order
        raise RequestError(f"the inputs have the task's names, but other types or shapes: {sides}")
    if count > MOST_INPUTS:
        raise RequestError(f"cannot tell which of the {count} inputs is which; name them in the card: {sides}")
    ways = [
        list(order)
        for order in permutations(range(count))
        if all(_takes(port, arrays[place]) for port, place in zip(ports, order, strict=True))
    ]
    if not ways:
        raise RequestError(f"the model does not take what the task gives: {sides}")
    if len(ways) > 1:
        what = "several inputs have the same type and shape, so their order cannot be known"
        raise RequestError(f"{what}; say in the card which is which, in the task's order, as `inputs: [...]`: {sides}")
    return ways[0]


def _task_ports(arrays: Sequence[np.ndarray], names: Sequence[str]) -> list[Port]:
    known = names if len(names) == len(arrays) else [""] * len(arrays)
    return [Port(name, str(array.dtype), (None, *array.shape[1:])) for name, array in zip(known, arrays, strict=True)]


def _takes(port: Port, array: np.ndarray) -> bool:
    """Say whether an input takes an array: one kind of numbers, as many axes, and equal lengths where they are fixed."""
    if not _kind_fits(port.dtype, array.dtype.kind):
        return False
    if port.shape is None:
        return True
    if len(port.shape) != array.ndim:
        return False
    return all(side is None or side == length for side, length in zip(port.shape[1:], array.shape[1:], strict=True))


def _kind_fits(dtype: str, kind: str) -> bool:
    if kind == "f":
        return "float" in dtype or dtype == "double"
    if kind in "iu":
        return "int" in dtype
    return dtype == "bool" if kind == "b" else kind in "OUS" and dtype in ("object", "str")


def as_port(array: np.ndarray, port: Port) -> np.ndarray:
    """Return an array in the element type that a port takes, where that is another type of the same kind of numbers."""
    import numpy as np

    plain = array.dtype.isbuiltin == 1  # types of ml_dtypes are what they are
    if not plain or port.dtype == str(array.dtype) or not _kind_fits(port.dtype, array.dtype.kind):
        return array
    if "bfloat16" in port.dtype:
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)
    try:
        return array.astype(np.dtype(port.dtype))
    except TypeError:  # a type that numpy does not have; the runtime says what it wants
        return array


def named_output(ports: Sequence[Port], wanted: int | str) -> int:
    """Return the place of the output that a card names by its name or number; raise RequestError listing what there is."""
    listed = ", ".join(f"{place}: {port}" for place, port in enumerate(ports))
    if isinstance(wanted, int):
        if wanted < len(ports):
            return wanted
        raise RequestError(f"the model has no output number {wanted}; it gives {listed}")
    places = [place for place, port in enumerate(ports) if port.name == wanted]
    if len(places) != 1:
        raise RequestError(f"the model has no output {wanted!r}; it gives {listed}")
    return places[0]
