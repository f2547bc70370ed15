"""Scores a session on a split, and compares its outputs with a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from efflab.backend import Arrays, Session
from efflab.task import Split, SplitName, Task


def evaluate(session: Session, task: Task, split: Split | SplitName, batch_size: int) -> np.ndarray:
    """Return the task's score of each example of a split: shape (examples,) or (examples, statistics)."""
    data = task.split(split) if isinstance(split, str) else split
    return task.scores(predict(session, data.inputs, batch_size), data.targets)


def predict(session: Session, inputs: Arrays, batch_size: int) -> Any:
    """Run `inputs` (examples first) in batches and return the outputs, a pytree of arrays with examples first.

    Every batch has `batch_size` examples, so that runtimes with fixed shapes serve: the last one is filled up with
    its last example, and the surplus is cut off. Raises ValueError for no examples, or outputs that are not a row each.
    """
    total = len(inputs[0])
    if total == 0 or batch_size < 1:
        raise ValueError("needs at least one example and a batch size of at least 1")
    result: Any = None
    for start in range(0, total, batch_size):
        batch = tuple(array[start : start + batch_size] for array in inputs)
        count = len(batch[0])
        outputs = session(tuple(_filled(array, batch_size) for array in batch))
        if result is None:
            result = _map(lambda leaf: _room(leaf, total, batch_size), outputs)
        # copied at once: a runtime may write its next outputs into the same buffer
        for target, leaf in zip(leaves(result), leaves(outputs), strict=True):
            target[start : start + count] = leaf[:count]
    return result


def parity(outputs: Any, reference: Any) -> dict[str, float | None]:
    """Compare two pytrees of outputs: `sqnr_db` (inf if equal), `max_abs_error`, `top1_agreement` (share of rows).

    `top1_agreement` is of the first leaf with a floating last axis of at least 2, None without one.
    Raises ValueError where structures or shapes differ. Outputs that are not finite where the reference is count as
    an error without bound.
    """
    found, wanted = [*leaves(outputs)], [*leaves(reference)]
    if [leaf.shape for leaf in found] != [leaf.shape for leaf in wanted]:
        shapes = [[leaf.shape for leaf in side] for side in (found, wanted)]
        raise ValueError(f"outputs have shapes {shapes[0]}, the reference {shapes[1]}")
    signal = noise = largest = 0.0
    for leaf, right in zip(found, wanted, strict=True):
        expected = right.astype(np.float64)
        with np.errstate(invalid="ignore"):
            error = np.abs(np.where(leaf == right, 0.0, leaf.astype(np.float64) - expected))
        error = np.where(np.isnan(error) & ~(np.isnan(leaf.astype(np.float64)) & np.isnan(expected)), np.inf, error)
        error = np.nan_to_num(error, nan=0.0, posinf=np.inf)
        signal += float(np.sum(np.square(expected[np.isfinite(expected)])))
        noise += float(np.sum(np.square(error)))
        largest = max(largest, float(error.max(initial=0.0)))
    return {"sqnr_db": _decibel(signal, noise), "max_abs_error": largest, "top1_agreement": _agreement(found, wanted)}


def leaves(tree: Any) -> Iterator[np.ndarray]:
    """Yield the arrays of a pytree (dict, list, tuple, nested) in order."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from leaves(value)
    else:
        yield np.asarray(tree)


def _map(change: Callable[[np.ndarray], np.ndarray], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(change, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        values = [_map(change, value) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return change(np.asarray(tree))


def _room(leaf: np.ndarray, total: int, batch_size: int) -> np.ndarray:
    if leaf.ndim == 0 or len(leaf) != batch_size:
        raise ValueError(f"an output has shape {leaf.shape}; its first axis must be the batch of {batch_size}")
    return np.empty((total, *leaf.shape[1:]), leaf.dtype)


def _filled(array: np.ndarray, batch_size: int) -> np.ndarray:
    missing = batch_size - len(array)
    return array if missing == 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def _agreement(found: list[np.ndarray], wanted: list[np.ndarray]) -> float | None:
    for leaf, right in zip(found, wanted, strict=True):
        if right.ndim >= 2 and right.shape[-1] >= 2 and right.dtype.kind == "f":
            return float(np.mean(leaf.argmax(axis=-1) == right.argmax(axis=-1)))
    return None
