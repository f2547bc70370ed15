"""What all classification tasks share: top-1 accuracy, an outcome of 0 or 1 for each example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from efflab.task import Task

if TYPE_CHECKING:
    import numpy as np


class Classification(Task):
    """A task whose outputs are one logit a class, shape (examples, classes), and whose targets are class numbers."""

    metric: ClassVar[str] = "accuracy"
    # what models that come from elsewhere are checked against, where the task says it
    classes: ClassVar[int | None] = None
    image: ClassVar[tuple[int, int, int] | None] = None  # channels, height, width of each example
    mean: ClassVar[tuple[float, ...] | None] = None  # subtracted from pixels of 0 to 1, for each channel
    deviation: ClassVar[tuple[float, ...] | None] = None  # divided by then

    def scores(self, outputs: Any, targets: np.ndarray) -> np.ndarray:
        """Return 1 where the highest logit is the target's, else 0."""
        import numpy as np

        hits: np.ndarray = (np.asarray(outputs).argmax(axis=-1) == targets).astype(np.uint8)
        return hits

    def quality(self, scores: np.ndarray) -> float:
        """Return top-1 accuracy."""
        import numpy as np

        return float(np.mean(scores))
