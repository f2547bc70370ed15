"""Looks at models as they run: what one takes and gives, and what a step did to its outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.artefacts.graph_files import external_files
from efflab.artefacts.interface import (
    Interface,
    Port,
    fixed_batch,
    graph_ports,
    input_ports,
    leaves,
    match_inputs,
    named_output,
    output_ports,
)
from efflab.contracts.examples import calibration_split, first_inputs, like_parameters
from efflab.contracts.task import Task
from efflab.foundation.errors import RequestError
from efflab.foundation.files import is_file
from efflab.foundation.wording import one_line
from efflab.model_surgery.graphs.onnx_graph import feed_of, open_graph
from efflab.profiling.quality import parity

if TYPE_CHECKING:
    import torch

STEADY_DB = 20.0  # an example's outputs, alone and beside others, and twice in a row, should lie nearer than that
SIZES = (2, 1, 4, 8, 16, 32)  # of a batch that are tried, where the model does not say what it takes

Arrays = tuple[np.ndarray, ...]
Run = Callable[[Arrays], Any]


def check_graph_file(path: Path, task: Task, inputs: Sequence[str] = (), output: int | str | None = None) -> Interface:
    """Check an ONNX file of a card against its task without running it; return its interface, as far as the file tells.

    Raises RequestError for a file that lacks its weights, takes other inputs than the task gives, or gives no output that
    the task can score.
    """
    missing = [file.name for file in external_files(path) if not is_file(file)]
    if missing:
        raise RequestError(f"{path.name} keeps its weights in {', '.join(missing)}, which is missing beside it")
    given, taken = graph_ports(path)
    input_order(given, task, inputs)
    odd = [port for port in taken if port.dtype in ("sequence", "optional", "map", "sparse_tensor")]
    if odd:
        what = f"output {odd[0].name} is a {odd[0].dtype}, and a tensor is wanted"
        raise RequestError(f"{what}; converters of scikit-learn write tensors with the option zipmap=False")
    batch = fixed_batch(given)
    # declared shapes may be stale; the batch axis is taken for free here, and looked at when the model runs
    free = tuple(port._replace(shape=(None, *port.shape[1:])) if port.shape else port for port in taken)
    return Interface(given, taken, scored_place(task, free, output), batch)


def input_order(given: Sequence[Port], task: Task, named: Sequence[str] = ()) -> list[int]:
    """Return which of the task's arrays each input of a graph takes; `named`: the inputs in the task's order, if a card says so.

    Raises RequestError where they do not fit, or fit in several ways.
    """
    arrays = first_inputs(task.split(calibration_split(task)), 2)
    return match_inputs(given, arrays, named or task.input_names or arrays.names)


def scored_place(task: Task, ports: Sequence[Port], output: int | str | None) -> int | None:
    """Return the place of the output that is scored: the one that a card names, else the one that the task chooses."""
    if output is None:
        return task.choose_output(ports)
    place = named_output(ports, output)
    task.choose_output([ports[place]])  # refuses one that cannot be scored
    return place


def look_at(artefact: Artefact, task: Task, output: int | str | None = None) -> Interface:
    """Return what a stored model takes and gives, found by running it on two real examples.

    A model that takes one example only is tried with one. Raises RequestError for a model that does not run on what the
    task gives, or whose outputs the task cannot score.
    """
    split = task.split(calibration_split(task))
    given, known = _declared(artefact, first_inputs(split, 1), task.free_axes())
    run = runner(artefact)
    failure: RequestError | None = None
    for size in [known] if known else SIZES:
        try:
            ports = output_ports(run(first_inputs(split, size)), size)
            scored = scored_place(task, ports, output)
            # a task that reads all outputs needs a row an example of each
            if scored is None and size > 1 and any(port.shape and port.shape[0] is not None for port in ports):
                raise RequestError(f"not every output has a row for each example: {', '.join(map(str, ports))}")
        except RequestError as error:
            failure = failure or error
        else:
            return Interface(given, ports, scored, size if known or size != SIZES[0] else None)
    assert failure is not None
    raise failure


def check_steady(artefact: Artefact, task: Task) -> None:
    """Raise RequestError for a model that answers by chance, or whose answer for one example depends on the others in a call.

    The score of such a model would depend on the run, or on the size of the batch.
    """
    size = task.interface.batch or 4
    arrays = first_inputs(task.split(calibration_split(task)), size)
    run = runner(artefact)
    first, again = (_compared(task, run(arrays)) for _ in range(2))
    if (parity(again, first)["sqnr_db"] or 0.0) < STEADY_DB:
        what = "gives other outputs when it runs on the same input again, so no score of it holds"
        raise RequestError(f"the model {what}; switch off what it draws by chance (dropout, noise) for evaluation")
    if task.interface.batch:
        return
    alone = [_compared(task, run(tuple(array[one : one + 1] for array in arrays))) for one in range(size)]
    joined = [np.concatenate(parts) for parts in zip(*alone, strict=True)]
    if (parity(joined, first)["sqnr_db"] or 0.0) < STEADY_DB:
        what = "an example's outputs depend on the other examples in the call, so no score holds for all batch sizes"
        raise RequestError(f"{what}; use statistics of the training in evaluation, and norms over single examples")


def _declared(artefact: Artefact, arrays: Arrays, axes: Collection[int]) -> tuple[tuple[Port, ...], int | None]:
    """Return the inputs of a stored model, and the number of examples that it says it takes, if it says one."""
    if artefact.form == "onnx":
        given, _ = graph_ports(artefact.onnx)
        return given, fixed_batch(given)
    from efflab.artefacts.user_models import exported_batch

    module = artefact.module()
    ports = module_inputs(module, arrays, axes)
    refuse_other_order(module, getattr(arrays, "names", ()))
    return ports, exported_batch(module)


def refuse_other_order(module: Any, names: Sequence[str]) -> None:
    """Raise RequestError for a module whose forward takes one of the named inputs at another place than the task gives it."""
    taken = _arguments(module)
    for place, name in enumerate(names):
        if name in taken and taken.index(name) != place:
            what = f"forward takes {', '.join(taken[: max(len(names), taken.index(name) + 1)])}"
            way_out = "bring a module whose forward takes them in the task's order, and hands them on by name"
            raise RequestError(f"{what}; the task gives {', '.join(names)}, in this order; {way_out}")


def _arguments(module: Any) -> list[str]:
    import inspect

    try:
        return list(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):
        return []


def module_inputs(module: Any, arrays: Sequence[Any], axes: Collection[int] = ()) -> tuple[Port, ...]:
    """Return the ports of a module's inputs, named by the arguments of its forward; `axes` are free beside the first."""
    names = _arguments(module)
    ports = input_ports((names + [f"input{place}" for place in range(len(arrays))])[: len(arrays)], arrays)
    return tuple(
        port._replace(shape=port.shape and tuple(None if at in axes else side for at, side in enumerate(port.shape)))
        for port in ports
    )


def runner(artefact: Artefact, optimised: bool = False) -> Run:
    """Return what runs a stored model on a batch of arrays, in its own library and with no backend of ours.

    optimised: graphs as ONNX Runtime optimises them for this processor; else every operator as ONNX defines it.
    It is opened at its first run, and once. It gives nested arrays; of several outputs of a graph a mapping by name. It
    raises RequestError in words where the model cannot be opened or does not run.
    """
    opened: list[Run] = []

    def run(inputs: Arrays) -> Any:
        shapes = ", ".join(f"{array.dtype} {'x'.join(map(str, array.shape))}" for array in inputs)
        try:
            if not opened:
                graph = artefact.form == "onnx"
                opened.append(_graph(artefact.onnx, optimised) if graph else _module(artefact.module()))
            return opened[0](inputs)
        except MemoryError:
            raise
        except Exception as error:
            raise RequestError(
                f"the model does not run on what the task gives ({shapes}): {one_line(error)}"
            ) from error

    return run


def _graph(path: Path, optimised: bool) -> Run:
    import torch

    session = open_graph(path, torch.get_num_threads(), optimised)
    names = [value.name for value in session.get_outputs()]

    def run(inputs: Arrays) -> Any:
        outputs = session.run(None, feed_of(session, inputs))
        return outputs[0] if len(outputs) == 1 else dict(zip(names, outputs, strict=True))

    return run


def _module(module: torch.nn.Module) -> Run:
    import torch

    from efflab.contracts.module_session import to_arrays

    def run(inputs: Arrays) -> Any:
        tensors = [like_parameters(torch.from_numpy(np.array(array)), module) for array in inputs]
        with torch.inference_mode():
            return to_arrays(module(*tensors))

    return run


def _compared(task: Task, outputs: Any) -> list[np.ndarray]:
    """Return the scored output, or all of them."""
    return [np.asarray(one) for one in leaves(task.scored(outputs))]


def scored_outputs(task: Task, run: Run, arrays: Arrays) -> list[np.ndarray]:
    """Return the scored output for all examples, or all outputs, from calls of as many examples as the model takes."""
    total = len(arrays[0])
    size = task.interface.batch or total
    calls = [_compared(task, run(tuple(one[at : at + size] for one in arrays))) for at in range(0, total, size)]
    return [np.concatenate(parts) if len(calls) > 1 else parts[0] for parts in zip(*calls, strict=True)]


def kept_interface(interface: Interface, seen: Interface) -> Interface:
    """Return a step's interface: what is seen of its model now, with the scored output that its input had."""
    return replace(seen, scored=interface.scored if len(seen.outputs) == len(interface.outputs) else seen.scored)
