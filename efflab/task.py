"""The contract of a task: data with fixed splits, a loss, and a metric made of per-example scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from efflab.config import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """Examples of one split: `inputs` are arrays with a leading example axis, ready for the model."""

    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


class Task(Settings, ABC):
    """Data and metric. One file in `efflab/tasks/`; the class is the file's name in CamelCase."""

    version: ClassVar[int] = 1  # raise it when the meaning of the numbers changes
    metric: ClassVar[str] = "accuracy"
    prepared: ClassVar[str] = ""  # how raw data became inputs, for users of a model who must do the same to theirs
    tiny: ClassVar[dict[str, Any]] = {}  # settings under which tests run in seconds

    @abstractmethod
    def digest(self) -> str:
        """Return a content digest of the data; raise RequestError with the way to get it if it is missing."""

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """Return one split, the same at every call; `test` is for the final score only."""

    @abstractmethod
    def scores(self, outputs: Any, targets: np.ndarray) -> np.ndarray:
        """Return what one example contributes to the metric: shape (examples,) or (examples, statistics)."""

    @abstractmethod
    def quality(self, scores: np.ndarray) -> float:
        """Return the metric of any (re)sample of `scores`; higher is better."""

    @abstractmethod
    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the training loss of a batch."""

    def augment(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a randomly changed copy of a training batch; unchanged by default."""
        return inputs
