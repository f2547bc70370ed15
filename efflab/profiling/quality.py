"""Scores a session on a split, and compares its outputs with a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from efflab.artefacts.interface import leaves
from efflab.contracts.backend import Arrays, Session
from efflab.contracts.task import Split, SplitName, Task
from efflab.foundation.errors import RequestError

__all__ = ["evaluate", "leaves", "parity", "predict"]


def evaluate(session: Session, task: Task, split: Split | SplitName, batch_size: int) -> np.ndarray:
    """Return the task's score of each example of a split: shape (examples,) or (examples, statistics).

    Scores are made batch by batch, so that no outputs are kept. Examples that differ in length are taken by their length,
    so that batches have little padding; the scores stand in the order of the split. Raises RequestError where the task
    gives another number of scores than there are examples.
    """
    data = task.split(split) if isinstance(split, str) else split
    if len(data) == 0 or batch_size < 1:
        raise ValueError("needs at least one example and a batch size of at least 1")
    scores: list[np.ndarray] = []
    lengths = data.lengths()
    order = None if lengths is None else np.argsort(lengths, kind="stable")
    for start in range(0, len(data), batch_size):
        places = range(start, min(start + batch_size, len(data)))
        batch = data.batch(places if order is None else order[places.start : places.stop].tolist())
        filled = batch.inputs.map(partial(_filled, batch_size=batch_size))
        count, outputs = batch.size, task.predict(session, filled)
        rows = _map(partial(_first_rows, batch_size=batch_size, count=count), task.scored(outputs))
        found = np.asarray(task.scores(rows, batch.targets))
        if found.shape[:1] != (count,):
            what = f"the task gives scores of shape {found.shape} for {count} examples; one row an example is wanted"
            raise RequestError(what)
        scores.append(found)
    together = np.concatenate(scores)
    return together if order is None else together[np.argsort(order)]


def _batches(session: Session, inputs: Arrays, batch_size: int) -> Iterator[tuple[int, int, Any]]:
    """Yield (start, count, outputs) of each batch; the last one is filled up with its last example."""
    total = len(inputs[0]) if inputs else 0
    if total == 0 or batch_size < 1:
        raise ValueError("needs at least one example and a batch size of at least 1")
    for start in range(0, total, batch_size):
        batch = tuple(array[start : start + batch_size] for array in inputs)
        yield start, len(batch[0]), session(tuple(_filled(array, batch_size) for array in batch))


def predict(session: Session, inputs: Arrays, batch_size: int) -> Any:
    """Run `inputs` (examples first) in batches and return the outputs, a pytree of arrays with examples first.

    Every batch has `batch_size` examples, so that runtimes with fixed shapes serve: the last one is filled up with
    its last example, and the surplus is cut off. Raises ValueError for no examples, or outputs that are not a row each.
    """
    result: Any = None
    for start, count, outputs in _batches(session, inputs, batch_size):
        if result is None:
            result = _map(
                lambda leaf: np.empty((len(inputs[0]), *_rows(leaf, batch_size).shape[1:]), leaf.dtype), outputs
            )
        # copied at once: a runtime may write its next outputs into the same buffer
        for target, leaf in zip(leaves(result), leaves(outputs), strict=True):
            target[start : start + count] = np.asarray(leaf)[:count]
    return result


def parity(outputs: Any, reference: Any) -> dict[str, float | None]:
    """Compare two pytrees of outputs: `sqnr_db` (inf if equal), `max_abs_error`, `top1_agreement` (share of rows).

    `top1_agreement` is of the first leaf with a floating last axis of at least 2, None without one.
    Raises ValueError where structures or shapes differ. Outputs that are not finite where the reference is count as
    an error without bound.
    """
    found, wanted = ([np.asarray(leaf) for leaf in leaves(side)] for side in (outputs, reference))
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


def _map(change: Callable[[np.ndarray], np.ndarray], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(change, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        values = [_map(change, value) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return None if tree is None else change(np.asarray(tree))


def _rows(leaf: np.ndarray, batch_size: int) -> np.ndarray:
    """Return an output after checking that it has a row for each example of the batch."""
    if leaf.ndim == 0 or len(leaf) != batch_size:
        raise ValueError(f"an output has shape {leaf.shape}; its first axis must be the batch of {batch_size}")
    return leaf


def _first_rows(leaf: np.ndarray, batch_size: int, count: int) -> np.ndarray:
    return _rows(leaf, batch_size)[:count]


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
