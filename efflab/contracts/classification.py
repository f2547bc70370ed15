"""What all classification tasks share: top-1 accuracy, an outcome of 0 or 1 for each example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PrivateAttr

from efflab.artefacts.interface import Port, leaves, output_ports
from efflab.contracts.task import Task
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

# names of outputs that hold a score for each class, the most telling first (Hugging Face; scikit-learn's converters)
SCORE_NAMES = ("logits", "scores", "probabilities", "output_probability", "probs", "predictions")


class Classification(Task):
    """A task whose outputs are one logit a class, shape (examples, classes), and whose targets are class numbers."""

    metric: ClassVar[str] = "accuracy"
    # what models that come from elsewhere are checked against, where the task says it
    classes: ClassVar[int | None] = None
    image: ClassVar[tuple[int, int, int] | None] = None  # channels, height, width of each example
    mean: ClassVar[tuple[float, ...] | None] = None  # subtracted from pixels of 0 to 1, for each channel
    deviation: ClassVar[tuple[float, ...] | None] = None  # divided by then

    _counted: int | None = PrivateAttr(None)  # classes, counted once where the task does not say them

    def choose_output(self, ports: Sequence[Port]) -> int:
        """Return the place of the output that holds a score for each class: the only one of that shape, or by its name."""
        fitting = [place for place, port in enumerate(ports) if _class_count(port) != 0]
        listed = ", ".join(map(str, ports)) or "nothing"
        needed = self.class_count()
        few = [place for place in fitting if (_class_count(ports[place]) or needed) < needed]
        if few and len(few) == len(fitting):
            what = f"the data has {needed} classes, and this model gives fewer scores: {listed}"
            raise RequestError(f"{what}; bring a model of this task, or the data that this one was made for")
        fitting = [place for place in fitting if place not in few]
        if not fitting:
            what = "accuracy needs an output with a score for each class, of shape (examples, classes)"
            raise RequestError(f"{what}; this model gives {listed}")
        _refuse_sorted(ports, fitting)
        if len(fitting) == 1:
            return fitting[0]
        for name in SCORE_NAMES:
            places = [place for place in fitting if ports[place].name.rpartition(".")[2].lower() == name]
            if len(places) == 1:
                return places[0]
        exact = [place for place in fitting if _class_count(ports[place]) == needed]
        if len(exact) == 1:
            return exact[0]
        what = f"several outputs could hold the scores of {needed} classes: {listed}"
        raise RequestError(f"{what}; say in the card which one does, by its name or number, as `output: ...`")

    def class_count(self) -> int:
        """Return how many classes there are: as the task says, else as its validation data shows."""
        if self._counted is None:
            self._counted = self.classes or self._largest_target() + 1
        return self._counted

    def _largest_target(self) -> int:
        import numpy as np

        from efflab.contracts.examples import quality_batch

        split = self.split("validation")
        size = quality_batch(self, split)
        parts = (split.targets_of(range(at, min(at + size, len(split)))) for at in range(0, len(split), size))
        return max(int(np.max(part)) for part in parts)

    def scored(self, outputs: Any) -> Any:
        """Return the scores of the classes, shape (examples, classes); raise RequestError where there are none."""
        found, place = leaves(outputs), self.interface.scored
        if place is None or place >= len(found):
            place = self.choose_output(output_ports(outputs, _examples(found)))
        scores = found[place]
        if scores.ndim > 2:  # (N, C, 1, 1), as a last layer that is a convolution gives it
            scores = scores.reshape(len(scores), -1)
        return scores

    def scores(self, outputs: Any, targets: np.ndarray) -> np.ndarray:
        """Return 1 where the highest logit is the target's, else 0; NaN among an example's logits is no answer, so 0.

        Raises RequestError for a target that has no logit.
        """
        import numpy as np

        logits = np.asarray(self.scored(outputs))
        if len(targets) and int(np.max(targets)) >= logits.shape[1]:
            what = f"the data has class {int(np.max(targets))}, the model gives scores for {logits.shape[1]} classes"
            raise RequestError(f"{what}, counted from 0")
        hits = logits.argmax(axis=1) == targets
        if logits.dtype.kind == "f":
            hits &= ~np.isnan(logits).any(axis=1)
        result: np.ndarray = hits.astype(np.uint8)
        return result

    def quality(self, scores: np.ndarray) -> float:
        """Return top-1 accuracy."""
        import numpy as np

        return float(np.mean(scores))


def _refuse_sorted(ports: Sequence[Port], fitting: Sequence[int]) -> None:
    """Raise RequestError for scores beside as many whole numbers: they are sorted, as TopK gives them."""
    whole = [port for port in ports if port.dtype.startswith(("int", "uint"))]
    for port in (ports[place] for place in fitting if ports[place].dtype.startswith("float")):
        count = _class_count(port)
        beside = [one for one in whole if count is not None and count > 1 and _class_count(one) == count]
        if beside:
            what = f"output {beside[0].name} numbers the classes of {port.name}, so these scores are sorted by size"
            way_out = "give the scores before they are sorted (before TopK); or, if they are not, name them in the card"
            raise RequestError(f"{what} and no longer by class; {way_out} as `output: ...`")


def _examples(found: list[Any]) -> int:
    """Return the batch's length: the first axis of the arrays that have several axes."""
    return next((int(one.shape[0]) for one in found if getattr(one, "ndim", 0) > 1), 0)


def _class_count(port: Port) -> int | None:
    """Return how many classes an output has a score for: 0 where it holds no scores, None where its shape does not tell."""
    if not ("float" in port.dtype or port.dtype.startswith(("int", "uint"))):
        return 0
    if port.shape is None:
        return None
    if len(port.shape) < 2 or port.shape[0] is not None:
        return 0  # its first axis does not count the examples
    sides = [side for side in port.shape[1:] if side != 1]
    if not sides or len(sides) > 1:
        return 0 if None not in sides else None
    return sides[0]
