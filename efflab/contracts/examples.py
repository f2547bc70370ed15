"""Examples of a task: the first ones, batches for ranges of activations, gradients of the loss, sizes of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from efflab.contracts.task import Batch, Inputs, Split, SplitName, Task
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor, nn

QUALITY_BATCH = 250  # examples that are scored at a time, at most
QUALITY_BYTES = 8 << 20  # of their inputs: what a layer makes of an image is many times the image


def calibration_split(task: Task) -> SplitName:
    """Return the split that choices may look at: `train`, or `validation` of a task that has none."""
    return "train" if "train" in task.splits() else "validation"


def _examples(task: Task) -> Split:
    return task.split(calibration_split(task))


def example_inputs(task: Task, count: int = 2) -> tuple[Tensor, ...]:
    """Return the inputs of the first `count` training examples, as tensors of their own.

    Where the task is for a model that takes a fixed number of examples, it is that many; where examples differ in length,
    they are those of middle length.
    """
    import torch

    inputs = typical_inputs(_examples(task), task.interface.batch or count)
    return tuple(torch.from_numpy(array.copy()) for array in inputs)


def input_names(task: Task) -> tuple[str, ...]:
    """Return the names of the arrays that a task gives, () if it names none."""
    return task.input_names or first_inputs(_examples(task), 1).names


def typical_inputs(split: Split, count: int = 1) -> Inputs:
    """Return the inputs of the first `count` examples, or where examples differ in length, of those of middle length.

    At this length the work of one example is counted.
    """
    lengths = split.lengths()
    if lengths is None or not len(lengths):
        return first_inputs(split, count)
    order = sorted(range(len(lengths)), key=lambda one: lengths[one])
    start = max(0, min(len(order) // 2 - count // 2, len(order) - count))
    found = order[start : start + count]
    return split.batch(found + found[-1:] * (count - len(found))).inputs


def first_inputs(split: Split, count: int) -> Inputs:
    """Return the inputs of the first `count` examples; where there are fewer, the last one again."""
    last = len(split) - 1
    if last < 0:
        raise RequestError("the split has no examples")
    return split.batch(range(count) if count <= last + 1 else [min(one, last) for one in range(count)]).inputs


def example_bytes(split: Split) -> int:
    """Return the bytes of one example's inputs."""
    return max(1, sum(int(array.nbytes) for array in typical_inputs(split)))


def quality_batch(task: Task, split: Split) -> int:
    """Return how many examples are scored at a time: many small ones, few large ones."""
    if task.interface.batch:
        return task.interface.batch
    affordable: int = QUALITY_BYTES // example_bytes(split)
    return max(1, min(QUALITY_BATCH, len(split), affordable))


def calibration_batches(task: Task, examples: int, batch_size: int = 32) -> Iterator[Inputs]:
    """Yield the inputs of the first `examples` training examples; the last batch may be smaller.

    Where the task is for a model that takes a fixed number of examples, every batch has that many.
    """
    yield from input_batches(task, _examples(task), examples, batch_size)


def input_batches(task: Task, split: Split, examples: int, batch_size: int) -> Iterator[Inputs]:
    """Yield the inputs of the first `examples` of a split, in batches as `calibration_batches` gives them."""
    return (batch.inputs for batch in example_batches(task, split, examples, batch_size))


def example_batches(task: Task, split: Split, examples: int, batch_size: int) -> Iterator[Batch]:
    """Yield the first `examples` of a split; whole batches where the task is for a model that takes a fixed number."""
    fixed = task.interface.batch
    examples = min(examples, len(split))
    if fixed:
        batch_size = fixed
        examples = max(fixed, examples // fixed * fixed)
    for start in range(0, examples, batch_size):
        yield split.batch(range(start, min(start + batch_size, examples)))


def loss_gradients(task: Task, examples: int, batch_size: int = 128) -> Callable[[nn.Module], None]:
    """Return a function that adds to a module's gradients those of the task's mean loss over training examples."""
    import torch

    split = _examples(task)
    examples = min(examples, len(split))

    def fill(module: nn.Module) -> None:
        with torch.enable_grad():
            for batch in example_batches(task, split, examples, batch_size):
                inputs = tuple(like_parameters(torch.from_numpy(array), module) for array in batch.inputs)
                share = len(inputs[0]) / examples
                loss = task.loss(task.scored(module(*inputs)), as_tensors(batch.targets)) * share
                loss.backward()  # type: ignore[no-untyped-call]

    return fill


def as_tensors(targets: Any, device: str = "cpu") -> Any:
    """Return targets with tensors in place of arrays; what is no array stays as it is."""
    import numpy as np
    import torch
    from torch.utils._pytree import tree_map_only

    return tree_map_only(np.ndarray, lambda array: torch.from_numpy(array).to(device), targets)


def like_parameters(tensor: Tensor, module: nn.Module) -> Tensor:
    """Return a floating tensor in the floating dtype of the module's parameters, others as they are."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), tensor.dtype)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
