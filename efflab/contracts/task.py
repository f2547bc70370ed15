"""The contract of a task: data with fixed splits, a loss, and a metric made of per-example scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import PrivateAttr

from efflab.artefacts.interface import Interface, Port, leaves
from efflab.contracts.metric import Metric
from efflab.foundation.config import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

SplitName = Literal["train", "validation", "test"]


class Inputs(tuple[Any, ...]):
    """The arrays that one call of a model takes: a tuple in the order of the model's inputs, and by name where they have names.

    `inputs["input_ids"]` is the same array as `inputs[0]`. A task that gives a mapping gives the names with it.
    """

    names: tuple[str, ...]

    def __new__(cls, arrays: Iterable[Any], names: Iterable[str] = ()) -> Self:
        """Take arrays, or a mapping of name -> array; a tuple of named inputs keeps its names."""
        known = tuple(names) or tuple(arrays if isinstance(arrays, Mapping) else getattr(arrays, "names", ()))
        one = super().__new__(cls, arrays.values() if isinstance(arrays, Mapping) else arrays)
        if known and len(known) != len(one):
            raise ValueError(f"{len(one)} inputs have {len(known)} names ({', '.join(known)})")
        one.names = known
        return one

    def __getitem__(self, key: Any) -> Any:
        """Return the input of that name, or place."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise KeyError(f"no input is called {key!r}; there are {', '.join(self.names) or 'no names'}")
        return super().__getitem__(self.names.index(key))

    def map(self, change: Callable[[Any], Any]) -> Inputs:
        """Return each array changed, under its name."""
        return Inputs((change(array) for array in self), self.names)


@dataclass(frozen=True)
class Batch:
    """Some examples: `inputs` are arrays with a leading example axis, ready for the model, or a mapping of them by name.

    `targets` have a row for each example, too: an array, a list with an entry an example, or a structure of these.
    """

    inputs: Inputs
    targets: Any

    def __init__(self, inputs: Iterable[np.ndarray] | Mapping[str, np.ndarray], targets: Any):
        object.__setattr__(self, "inputs", inputs if isinstance(inputs, Inputs) else Inputs(inputs))
        object.__setattr__(self, "targets", targets)

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.inputs[0])


class Split:
    """Examples of one split, taken a batch at a time, so that none needs to fit in memory.

    It is made of whole arrays; one that reads from a disk derives from it and overrides `__len__`, `batch` and `whole`.
    """

    def __init__(self, inputs: Iterable[np.ndarray] | Mapping[str, np.ndarray], targets: Any):
        self.inputs, self.targets = Inputs(inputs), targets

    def __len__(self) -> int:
        return len(self.inputs[0])

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return these examples; a range of neighbours costs no copy."""
        return Batch(self.inputs.map(lambda array: rows_of(array, indices)), rows_of(self.targets, indices))

    def targets_of(self, indices: Sequence[int]) -> Any:
        """Return the targets of these examples alone; override it where reading their inputs takes long."""
        return self.batch(indices).targets

    def whole(self) -> Batch | None:
        """Return all examples where they lie in memory, else None."""
        return Batch(self.inputs, self.targets)

    def lengths(self) -> Sequence[int] | None:
        """Return the length of each example where they differ in length (tokens of a text), else None."""
        return None


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

    def beside(self, folder: Path) -> Self:
        """Return this task with the paths in its settings taken relative to `folder`, the card's."""
        return self

    def notes(self) -> list[str]:
        """Return what users should know of the data before any work, a sentence each."""
        return []

    def free_axes(self) -> dict[int, str]:
        """Return the axes of the inputs, beside the first, along which batches differ in length: {1: "length"} of texts."""
        return {}

    def choose_output(self, ports: Sequence[Port]) -> int | None:
        """Return the place of the output that `loss` and `scores` take, or None where they take all outputs as they are.

        Raises RequestError, in words, where no output will do or several would.
        """
        return None

    def predict(self, session: Callable[[Inputs], Any], inputs: Inputs) -> Any:
        """Return the outputs for a batch; a task whose answers take several calls of the model overrides it."""
        return session(inputs)

    def scored(self, outputs: Any) -> Any:
        """Return what `loss` and `scores` take of a model's outputs (arrays or tensors, examples first)."""
        found, place = leaves(outputs), self._interface.scored
        return outputs if place is None or place >= len(found) else found[place]

    def augment(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a randomly changed copy of the first input of a training batch; unchanged by default."""
        return inputs
