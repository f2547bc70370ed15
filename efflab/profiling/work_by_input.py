"""The MAC ledger of a model whose work depends on its input: a mean over examples, and what groups of them cost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from efflab.contracts.examples import like_parameters
from efflab.profiling.work_module import run_counted
from efflab.records.record import CostGroup, Work

if TYPE_CHECKING:
    from efflab.contracts.task import Split, Task

EXAMPLES = 512  # counted one by one
MOST_GROUPS = 10


def is_input_dependent(module: nn.Module) -> bool:
    """Say whether the work of one example depends on the example: some part says so by an attribute of that name."""
    return any(getattr(part, "input_dependent", False) is True for part in module.modules())


def count_by_input(module: nn.Module, task: Task, examples: int = EXAMPLES) -> Work:
    """Count single validation examples; return the mean work of one, and `by_input`: groups of equal (or like) cost.

    A group has its MACs (their mean), its share of the examples and its quality. More than ten different costs are cut
    into ten groups of equally many examples.
    """
    split = task.split("validation")
    works, outputs = [], []
    for index in range(min(examples, len(split))):
        inputs = (torch.tensor(array) for array in split.batch(range(index, index + 1)).inputs)
        work, output = run_counted(module, tuple(like_parameters(one, module) for one in inputs))
        works.append(work)
        outputs.append(torch.utils._pytree.tree_map_only(torch.Tensor, _array, output))
    mean = works[0].copy()
    for name in ("macs", "effective_macs", "bit_operations"):
        mean[name] = round(float(np.mean([work[name] for work in works])))
    mean["coverage"] = min(work["coverage"] for work in works)
    mean["uncounted"] = dict(sum((Counter(work["uncounted"]) for work in works), Counter()))
    mean["by_input"] = _groups(np.array([work["macs"] for work in works]), _scores(task, split, outputs), task)
    return mean


def _array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _scores(task: Task, split: Split, outputs: list[Any]) -> np.ndarray:
    whole = torch.utils._pytree.tree_map(lambda *parts: np.concatenate(parts), *outputs)
    return task.scores(whole, split.batch(range(len(outputs))).targets)


def _groups(macs: np.ndarray, scores: np.ndarray, task: Task) -> list[CostGroup]:
    """Return the examples grouped by what they cost, the cheapest first."""
    order = np.argsort(macs, kind="stable")
    ends = np.flatnonzero(np.diff(macs[order])) + 1
    parts = np.split(order, ends) if len(ends) < MOST_GROUPS else np.array_split(order, MOST_GROUPS)
    return [
        {
            "macs": round(float(macs[part].mean())),
            "share": len(part) / len(macs),
            "quality": task.quality(scores[part]),
        }
        for part in parts
    ]
