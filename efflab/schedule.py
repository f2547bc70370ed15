"""The budget and schedule of a training: learning rate and image size over its course."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from efflab.config import Settings

Optimizer = Literal["sgd", "adamw"]


class TrainingSettings(Settings):
    """Budget and schedule: SGD with Nesterov momentum or AdamW, linear warm-up, then a cosine to zero.

    optimizer: transformers hardly learn under SGD (Zhang et al. 2019, arXiv 1912.03194).
    start_scale: images begin at this fraction of their size and grow, which costs less (progressive resizing); below 1
    the model must take images of any size.
    """

    epochs: Annotated[float, Field(gt=0, le=1000)] = 10.0
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.1
    batch_size: Annotated[int, Field(ge=2, le=8192)] = 128
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    start_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    bf16: bool = False
    optimizer: Optimizer = "sgd"


def image_scale(progress: float, start: float) -> float:
    """Return the fraction of their full size that images have at `progress` (0 to 1) of a training.

    `start` for the first two fifths, then growing linearly, and full size for the last quarter, in which the batch
    norms settle (MosaicML Composer, "Progressive Resizing").
    """
    grown = min(max((progress - 0.4) / 0.35, 0.0), 1.0)
    return start + (1 - start) * grown


def learning_rate_share(progress: float, warmup: float) -> float:
    """Return the learning rate at `progress` (0 to 1) as a share of its peak: a linear warm-up, then a cosine to zero."""
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
