"""Opens a model's exits: chooses on validation how sure a head must be (Teerapittayanon et al. 2016, arXiv 1709.01686)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from efflab.contracts.task import Task
    from efflab.model_surgery.adaptive.early_exits import EarlyExits, Threshold

Confidence = Literal["maximum", "entropy"]

MOST_CHOICES = 20_000  # combinations of thresholds that are tried
MOST_THRESHOLDS = 100  # of one exit
BATCH = 250
HAIR = 1e-5  # far above the rounding of float32, far below what tells examples apart


class ChooseExits(Technique):
    """Let examples leave where a head is sure enough: the thresholds that save most, at a loss on validation (BranchyNet).

    Every combination of quantiles of what the heads are sure of is tried; the one with the least expected MACs stays, among
    those whose validation quality is at most `loss` below the last exit's. An exit that does not pay stays shut. At batch
    1 a sure example ends the call; in larger batches the rest goes on alone, and the batch ends with its last example.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("macs",)
    after: ClassVar[tuple[str, ...]] = ("add_exits",)
    rather_after: ClassVar[dict[str, str]] = {
        "finetune": "thresholds hold for the heads on which they were chosen",
        "distill": "thresholds hold for the heads on which they were chosen",
        "fold_norms": "a model that branches on its data cannot be traced",
    }
    tiny: ClassVar[dict[str, Any]] = {"loss": 0.5, "calibration_examples": 128}

    loss: Annotated[
        float,
        Field(
            ge=0, lt=1, description="Validation quality that may be lost, as a fraction: 0.01 is one percentage point."
        ),
    ] = 0.01
    confidence: Annotated[
        Confidence,
        Field(
            description="How sure a head is of an example: by its largest probability (`maximum`), or by the low "
            "entropy of its probabilities (`entropy`)."
        ),
    ] = "maximum"
    calibration_examples: Annotated[
        int,
        Field(
            ge=16, le=1_000_000, description="Largest number of validation examples on which the thresholds are chosen."
        ),
    ] = 10_000

    def apply(self, model: Any, context: Context) -> Result:
        """Choose; raise RequestError if the model has no exits, or none saves work at this loss."""
        thresholds = choose_exits(model, context.task, self.loss, self.confidence, self.calibration_examples)
        return Result(model, {"thresholds": thresholds, "confidence": self.confidence})

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Open the exits at the given thresholds."""
        exits: Any = module
        exits.thresholds, exits.confidence = list(structure["thresholds"]), structure["confidence"]
        return module

    def input_dependent(self) -> bool:
        """Return that it is: examples leave at different exits."""
        return True

    def no_onnx(self) -> str:
        """Return why such a model is not exported."""
        return "examples leave at different exits, which an ONNX graph of fixed operators cannot do; it runs in torch"


class Exit(NamedTuple):
    """What is known of an exit, the last one included: how sure it is of each example, their scores, and its MACs."""

    sure: np.ndarray
    scores: np.ndarray
    head: int  # of its head
    body: int  # up to its head, other heads not counted


def choose_exits(
    module: nn.Module,
    task: Task,
    loss: float = 0.01,
    confidence: Confidence = "maximum",
    examples: int = 10_000,
) -> list[Threshold]:
    """Set the thresholds of a model with exits in place and return them; None for an exit that stays shut.

    Raises RequestError if it has no exits, its heads do not fit its stages any more, or no exit saves work at this loss.
    """
    from efflab.model_surgery.adaptive.early_exits import EarlyExits

    if not isinstance(module, EarlyExits):
        raise RequestError("choose_exits: the model has no exits; add_exits makes them")
    thresholds = best_thresholds(look(module, task, confidence, examples), task, loss)
    # a hair below an example's own value: in a batch of another size it is rounded otherwise
    thresholds = [None if one is None else one * (1 - HAIR) for one in thresholds]
    if not any(threshold is not None for threshold in thresholds):
        raise RequestError(
            f"choose_exits: no exit saves work at a loss of {loss:g}; allow more, or train the exits longer"
        )
    module.thresholds, module.confidence = thresholds, confidence
    return thresholds


def look(module: EarlyExits, task: Task, confidence: Confidence, examples: int) -> list[Exit]:
    """Return what each exit answers on the first validation examples, and what it costs."""
    import numpy as np
    import torch

    from efflab.contracts.examples import like_parameters
    from efflab.model_surgery.adaptive.early_exits import sureness
    from efflab.profiling.work_module import count_module

    split = task.split("validation")
    parts: list[list[Any]] = []
    examples = min(examples, len(split))
    module.eval()
    with torch.no_grad(), module.all_open():
        for start in range(0, examples, BATCH):
            arrays = split.batch(range(start, min(start + BATCH, examples))).inputs
            inputs = [like_parameters(torch.tensor(array), module) for array in arrays]
            try:
                last = module(*inputs)
            except RuntimeError as error:
                raise RequestError(f"choose_exits: the heads do not fit their stages any more ({error})") from error
            parts.append([*module.logits, last])
    one = tuple(like_parameters(torch.tensor(array), module) for array in split.batch(range(1)).inputs)
    count, targets = len(module.heads), split.batch(range(examples)).targets

    def macs(*thresholds: Threshold) -> int:
        module.thresholds = [*thresholds, *[None] * (count - len(thresholds))]
        found = count_module(module, one)["macs"]
        module.thresholds = [None] * count
        return found

    whole, exits = macs(), []
    for index, logits in enumerate(torch.cat(batches) for batches in zip(*parts, strict=True)):
        shut: list[Threshold] = [None] * index
        # no head is surer than 1: at 2 it is computed and nobody leaves
        head = macs(*shut, 2.0) - whole if index < count else 0
        body = macs(*shut, 0.0) - head if index < count else whole
        scores = task.scores(logits.float().numpy(), targets)
        exits.append(Exit(sureness(logits, confidence).numpy(), np.asarray(scores), head, body))
    return exits


def best_thresholds(exits: list[Exit], task: Task, loss: float) -> list[Threshold]:
    """Return the thresholds with the least expected MACs whose quality is at most `loss` below the last exit's.

    exits: the last one is where all leave that did not before.
    """
    import numpy as np

    *early, last = exits
    goal = task.quality(last.scores) - loss
    each = min(MOST_THRESHOLDS, max(2, int(MOST_CHOICES ** (1 / max(1, len(early))))) - 1)
    grids: list[list[Threshold]] = [
        [None, *map(float, np.unique(np.quantile(one.sure, np.linspace(0, 1, each), method="lower")))] for one in early
    ]
    best: list[Threshold] = [None] * len(early)
    least = float(last.body)
    for thresholds in itertools.product(*grids):
        cost, scores = outcome(exits, thresholds)
        if cost < least and task.quality(scores) >= goal:
            best, least = list(thresholds), cost
    return best


def outcome(exits: list[Exit], thresholds: tuple[Threshold, ...]) -> tuple[float, np.ndarray]:
    """Return the mean MACs of an example, and the examples' scores, where each leaves at the first exit that is sure."""
    import numpy as np

    *early, last = exits
    going, scores = np.ones(len(last.scores), bool), last.scores.copy()
    macs = heads = 0.0
    for one, threshold in zip(early, thresholds, strict=True):
        if threshold is None:
            continue
        heads += one.head
        leaving = going & (one.sure >= threshold)
        scores[leaving] = one.scores[leaving]
        macs += leaving.mean() * (one.body + heads)
        going &= ~leaving
    return float(macs + going.mean() * (last.body + heads)), scores
