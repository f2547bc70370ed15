"""The budget and schedule of a training: learning rate and image size over its course."""

from __future__ import annotations

import math


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
