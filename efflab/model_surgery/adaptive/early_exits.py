"""Early exits: heads after some stages of a model, at which examples that are sure enough leave (arXiv 1709.01686)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Confidence = Literal["maximum", "entropy"]
Threshold = float | None  # None: the exit is shut, and its head is not computed


class ExitHead(nn.Module):
    """A 3x3 convolution of stride 2 with batch norm, where it has hidden channels; pooling; and a linear layer.

    Pooled are the largest value and the mean of each channel, side by side: early features say what is somewhere in the
    image, and a mean alone drowns it (Kaya et al. 2019, arXiv 1810.07052, section 3.1, mix the two).
    """

    def __init__(self, channels: int, classes: int, hidden: int = 0):
        super().__init__()
        self.features: nn.Module = nn.Identity()
        if hidden:
            conv = nn.Conv2d(channels, hidden, 3, 2, 1, bias=False)
            self.features = nn.Sequential(conv, nn.BatchNorm2d(hidden), nn.ReLU())
        self.linear = nn.Linear(2 * (hidden or channels), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of features (N, channels, H, W)."""
        x = self.features(x)
        logits: Tensor = self.linear(torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1))
        return logits


class EarlyExits(nn.Module):
    """A model with a head after each of some stages; whoever is sure enough at one leaves there, the rest goes on.

    The stages must run in a row, each on all that the one before gave. Outputs stand in the order of the inputs. In
    training, and within `all_open`, nobody leaves and `logits` holds what each head gave at the last call.
    """

    def __init__(self, body: nn.Module, stages: Sequence[str], heads: Sequence[nn.Module]):
        super().__init__()
        self.body, self.stages, self.heads = body, tuple(stages), nn.ModuleList(heads)
        self.thresholds: list[Threshold] = [None] * len(self.heads)
        self.confidence: Confidence = "maximum"
        self.frozen = False  # the body stays in evaluation mode while its heads train
        self.logits: list[Tensor] = []
        self._open = False
        self._rows: Tensor | None = None  # which inputs are still on their way; None: all
        self._left: list[tuple[Tensor | None, Tensor]] = []
        for index, name in enumerate(self.stages):
            # a partial of a method follows its owner when the module is copied, a closure would not
            body.get_submodule(name).register_forward_hook(partial(self._after, index))
        self.train(body.training)

    @property
    def input_dependent(self) -> bool:
        """Whether the work depends on the input: some exit is open."""
        return any(threshold is not None for threshold in self.thresholds)

    def train(self, mode: bool = True) -> EarlyExits:
        """Switch to training mode; a frozen body stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    @contextmanager
    def all_open(self) -> Iterator[None]:
        """Compute every head and let nobody leave."""
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def forward(self, x: Tensor) -> Any:
        """Return logits (N, classes), each example's from where it left."""
        self.logits, self._left, self._rows = [], [], None
        try:
            last = self.body(x)
        except _NobodyLeft:
            last = None
        if not self._left:
            return last
        if last is not None:
            self._left.append((self._rows, last))
        if len(self._left) == 1:
            return self._left[0][1]
        outputs = self._left[0][1].new_empty((len(x), self._left[0][1].shape[1]))
        for rows, logits in self._left:
            outputs[rows] = logits.to(outputs.dtype)
        self._left = []
        return outputs

    def _after(self, index: int, _stage: nn.Module, _inputs: Any, features: Tensor) -> Tensor | None:
        """Take out the examples that leave after a stage, and give the rest to the next one."""
        threshold = self.thresholds[index]
        if self.training or self._open:
            self.logits.append(self.heads[index](features))
            return None
        if threshold is None:
            return None
        logits = self.heads[index](features)
        leaving = sureness(logits, self.confidence) >= threshold
        count = int(leaving.sum())
        if count == 0:
            return None
        if count == len(leaving):
            self._left.append((self._rows, logits))
            raise _NobodyLeft
        going, staying = leaving.nonzero().squeeze(1), (~leaving).nonzero().squeeze(1)
        rows = self._rows if self._rows is not None else torch.arange(len(leaving), device=leaving.device)
        self._left.append((rows[going], logits[going]))
        self._rows = rows[staying]
        return features.index_select(0, staying)


class _NobodyLeft(Exception):  # noqa: N818 (the end of a forward pass, no error)
    """Every example has left: the stages that follow have nothing to do."""


def sureness(logits: Tensor, confidence: Confidence = "maximum") -> Tensor:
    """Return how sure a head is of each example, 0 to 1: its largest probability, or 1 - entropy / log(classes).

    logits: (N, classes), at least two; gives (N,) float32.
    """
    shares = logits.float().softmax(dim=1)
    if confidence == "maximum":
        return shares.amax(dim=1)
    entropy: Tensor = -torch.special.xlogy(shares, shares).sum(dim=1)
    return 1 - entropy / math.log(shares.shape[1])


def in_a_row(body: nn.Module, stages: Sequence[str], x: Tensor) -> bool:
    """Say whether each of the stages gets all its data from the one before: an example taken out after it is not missed.

    x: at least two examples.
    """
    body.eval()
    with torch.no_grad():
        wanted = body(x)
        for name in stages:
            handle = body.get_submodule(name).register_forward_hook(lambda _stage, _inputs, features: features[1:])
            try:
                found = body(x)
            except (RuntimeError, TypeError, IndexError):  # shapes that do not fit: something went around the stage
                return False
            finally:
                handle.remove()
            if found.shape != wanted[1:].shape or not torch.allclose(found, wanted[1:], rtol=1e-3, atol=1e-4):
                return False
    return True
