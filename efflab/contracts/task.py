"""The contract of a task: data with fixed splits, a loss, and a metric made of per-example scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import PrivateAttr

from efflab.artefacts.interface import Interface, Port, leaves
from efflab.contracts.metric import Metric
from efflab.foundation.config import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Batch:
    """Some examples: `inputs` are arrays with a leading example axis, ready for the model.

    `targets` have a row for each example, too: an array, a list with an entry an example, or a structure of these.
    """

    inputs: tuple[np.ndarray, ...]
    targets: Any


class Split:
    """Examples of one split, taken a batch at a time, so that none needs to fit in memory.

    It is made of whole arrays; one that reads from a disk derives from it and overrides `__len__`, `batch` and `whole`.
    """

    def __init__(self, inputs: tuple[np.ndarray, ...], targets: Any):
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs[0])

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return these examples; a range of neighbours costs no copy."""
        return Batch(tuple(rows_of(array, indices) for array in self.inputs), rows_of(self.targets, indices))

    def whole(self) -> Batch | None:
        """Return all examples where they lie in memory, else None."""
        return Batch(self.inputs, self.targets)


def rows_of(structure: Any, indices: Sequence[int]) -> Any:
    """Return the rows of arrays and lists, in any nesting of tuples and mappings."""
    if isinstance(structure, Mapping):
        return {key: rows_of(value, indices) for key, value in structure.items()}
    if isinstance(structure, tuple):
        parts = [rows_of(value, indices) for value in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else tuple(parts)
    if isinstance(indices, range) and indices.step == 1:
        return structure[indices.start : indices.stop]
    return [structure[index] for index in indices] if isinstance(structure, list) else structure[list(indices)]


class Task(Settings, ABC):
    """Data and metric. One file in `efflab/tasks/`; the class is the file's name in CamelCase."""

    version: ClassVar[int] = 1  # raise it when the meaning of the numbers changes
    metric: ClassVar[str] = (
        "accuracy"  # a share of right answers; a task with another kind of metric says `metrics` instead
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy"),
    )  # verdicts use the first, the others are further columns
    prepared: ClassVar[str] = ""  # how raw data became inputs, for users of a model who must do the same to theirs
    requires: ClassVar[tuple[str, ...]] = ()  # modules beyond efflab's own packages, checked before any work
    tiny: ClassVar[dict[str, Any]] = {}  # settings under which tests run in seconds
    input_names: ClassVar[tuple[str, ...]] = ()  # of the split's arrays; an ONNX file's inputs are matched by them

    _interface: Interface = PrivateAttr(default_factory=Interface)

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "metrics" in cls.__dict__:
            cls.metric = cls.metrics[0].name
        elif "metric" in cls.__dict__:
            cls.metrics = (Metric(cls.metric),)

    @abstractmethod
    def digest(self) -> str:
        """Return a content digest of the data; raise RequestError with the way to get it if it is missing."""

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """Return one split, the same at every call and in every order; `test` is for the final score only."""

    @abstractmethod
    def scores(self, outputs: Any, targets: Any) -> np.ndarray:
        """Return what one example contributes to the metric: shape (examples,) or (examples, statistics)."""

    @abstractmethod
    def quality(self, scores: np.ndarray) -> float:
        """Return the first metric of any (re)sample of `scores`."""

    def quality_of(self, scores: np.ndarray, name: str) -> float:
        """Return the metric of that name; a task with several `metrics` overrides this for those after the first."""
        if name != self.metrics[0].name:
            raise NotImplementedError(
                f"{type(self).__name__} names the metric {name!r}, and its quality_of() has no value for it"
            )
        return self.quality(scores)

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        """Return the training loss of a batch."""

    def splits(self) -> tuple[SplitName, ...]:
        """Return the splits that there are; without `train`, ranges are calibrated on `validation` and nothing trains."""
        return ("train", "validation", "test")

    def for_model(self, interface: Interface) -> Self:
        """Return this task for a model of that interface, which says what output is scored and how many examples a call takes."""
        other = self.model_copy()
        other._interface = interface
        return other

    @property
    def interface(self) -> Interface:
        """The interface of the model that this task is for; empty where it is for none."""
        return self._interface

    def choose_output(self, ports: Sequence[Port]) -> int | None:
        """Return the place of the output that `loss` and `scores` take, or None where they take all outputs as they are.

        Raises RequestError, in words, where no output will do or several would.
        """
        return None

    def scored(self, outputs: Any) -> Any:
        """Return what `loss` and `scores` take of a model's outputs (arrays or tensors, examples first)."""
        found, place = leaves(outputs), self._interface.scored
        return outputs if place is None or place >= len(found) else found[place]

    def augment(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a randomly changed copy of the first input of a training batch; unchanged by default."""
        return inputs
