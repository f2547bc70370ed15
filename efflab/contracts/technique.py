"""The contract of a technique: typed settings and one `apply`; the file's name is the recipe key."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from efflab.artefacts.artefact import Form
from efflab.contracts.task import Task
from efflab.contracts.training_section import Optimizer
from efflab.foundation.config import Settings
from efflab.records.cost import Cost

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What a technique may use beside the model. Validation data only: the test split is not reachable from here."""

    task: Task
    seed: int
    folder: Path  # files that the technique writes go here (an ONNX file, a training checkpoint)
    baseline: Callable[[], torch.nn.Module]  # the dense model that this variant started from, e.g. as teacher
    card: Callable[[str], torch.nn.Module]  # the model of any other card
    optimizer: Optimizer = "sgd"  # by which the baseline was trained, and a step that trains goes on
    cost: Cost = field(default_factory=Cost)  # techniques that train add to it
    report: Callable[[int, int, str], None] = lambda done, total, note: None  # progress


@dataclass(frozen=True)
class Result:
    """What a step gives: the model, and for modules whose layers changed, the structure that `rebuild` needs."""

    model: Any  # torch.nn.Module, or Path of an ONNX file inside context.folder
    structure: dict[str, Any] | None = None  # plain JSON data
    notes: tuple[str, ...] = ()  # sentences that the row's reader should know, such as what was left alone


class Technique(Settings, ABC):
    """One transformation of a model. Fields are the recipe keys (at most seven)."""

    version: ClassVar[int] = 1  # raise it when the same settings give another model
    takes: ClassVar[Form]
    gives: ClassVar[Form]
    claims: ClassVar[
        tuple[str, ...]
    ] = ()  # metrics of efflab.foundation.metrics that it moves for the better; the contract test checks
    least_sqnr_db: ClassVar[float | None] = None  # outputs lie at least so near the input's, else the step failed
    random: ClassVar[bool] = False  # draws random numbers, whatever its settings
    converts: ClassVar[bool] = False  # changes only the form; where a backend needs that form, the plan adds the step
    supports: ClassVar[bool] = False  # prepares or repairs what other steps do, and so does not name a variant
    after: ClassVar[tuple[str, ...]] = ()  # techniques of which one must stand before this one
    before: ClassVar[tuple[str, ...]] = ()  # techniques that may not stand before this one
    rather_after: ClassVar[dict[str, str]] = {}  # other technique -> why it had better stand before this one
    tiny: ClassVar[dict[str, Any]]  # settings under which the contract test runs in seconds

    @abstractmethod
    def apply(self, model: Any, context: Context) -> Result:
        """Return the changed model. `model` is a private copy and may be changed in place."""

    @classmethod
    def rebuild(cls, module: torch.nn.Module, structure: dict[str, Any]) -> torch.nn.Module:
        """Return `module` with its layers changed to `structure`, before the stored weights are loaded into it."""
        return module

    @classmethod
    def pack(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict as it is to lie on disk; `unpack` must give back what can be computed with."""
        return state

    @classmethod
    def unpack(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict that `pack` was given."""
        return state

    def teachers(self) -> Sequence[str]:
        """Return the cards whose models it needs beside the baseline, e.g. as teachers."""
        if type(self).cards is Technique.cards:
            return ()
        told = f"`cards` of {type(self).__name__} works for one more release; call it `teachers`"
        warnings.warn(told, FutureWarning, stacklevel=2)
        return self.cards()

    def cards(self) -> list[str]:
        """Return the same as `teachers`: its earlier name."""
        return [] if type(self).teachers is Technique.teachers else list(self.teachers())

    def draws(self) -> bool:
        """Return whether it draws random numbers under these settings: such steps are repeated over the recipe's seeds."""
        return self.random

    def no_onnx(self) -> str:
        """Return why a module after this step has no ONNX form, or "" if it has; ONNX backends are then not planned."""
        return ""

    def input_dependent(self) -> bool:
        """Return whether the work of a model after this step depends on its input; it is timed over many inputs then."""
        return False

    def control(self) -> Technique | None:
        """Return the settings that show what the technique's own choice is worth (e.g. random channels), if any."""
        return None

    def epochs_of_training(self) -> float:
        """Return how many passes over the training split it makes: those of a setting `epochs`, if it has one."""
        return float(getattr(self, "epochs", 0.0))

    def rate_of_training(self) -> float:
        """Return the highest learning rate of its training: that of a setting `learning_rate`, if it has one."""
        return float(getattr(self, "learning_rate", 0.0))
