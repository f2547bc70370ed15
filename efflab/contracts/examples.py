"""What quantisers and importances start from: a float graph, training batches for ranges, gradients of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from efflab.contracts.task import Split, SplitName, Task

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


def calibration_split(task: Task) -> SplitName:
    """Return the split that choices may look at: `train`, or `validation` of a task that has none."""
    return "train" if "train" in task.splits() else "validation"


def _examples(task: Task) -> Split:
    return task.split(calibration_split(task))


def example_inputs(task: Task, count: int = 2) -> tuple[Tensor, ...]:
    """Return the inputs of the first `count` training examples, as tensors of their own.

    Where the task is for a model that takes a fixed number of examples, it is that many.
    """
    import torch

    count = task.interface.batch or count
    return tuple(torch.from_numpy(array[:count].copy()) for array in _examples(task).inputs)


def calibration_batches(task: Task, examples: int, batch_size: int = 32) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the inputs of the first `examples` training examples; the last batch may be smaller.

    Where the task is for a model that takes a fixed number of examples, every batch has that many.
    """
    yield from input_batches(task, _examples(task), examples, batch_size)


def input_batches(task: Task, split: Split, examples: int, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the inputs of the first `examples` of a split, in batches as `calibration_batches` gives them."""
    fixed = task.interface.batch
    examples = min(examples, len(split))
    if fixed:
        batch_size = fixed
        examples = max(fixed, examples // fixed * fixed)
    for start in range(0, examples, batch_size):
        yield tuple(array[start : min(start + batch_size, examples)] for array in split.inputs)


def loss_gradients(task: Task, examples: int, batch_size: int = 128) -> Callable[[nn.Module], None]:
    """Return a function that adds to a module's gradients those of the task's mean loss over training examples."""
    import torch

    split = _examples(task)
    examples = min(examples, len(split))

    def fill(module: nn.Module) -> None:
        start = 0
        with torch.enable_grad():
            for batch in calibration_batches(task, examples, batch_size):
                targets = torch.from_numpy(split.targets[start : start + len(batch[0])])
                inputs = tuple(like_parameters(torch.from_numpy(array), module) for array in batch)
                loss = task.loss(task.scored(module(*inputs)), targets) * (len(targets) / examples)
                loss.backward()  # type: ignore[no-untyped-call]
                start += len(targets)

    return fill


def like_parameters(tensor: Tensor, module: nn.Module) -> Tensor:
    """Return a floating tensor in the floating dtype of the module's parameters, others as they are."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), tensor.dtype)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
