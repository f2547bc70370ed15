"""What scoring a split that does not fit in memory takes: peak memory, and time against a bare loop over one array.

    python benchmarks/streaming.py [images]        (default: 20,000 images of 224 x 224, 12 GB as one float32 array)

The images are made when their batch is asked for, as a folder of files would give them.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from efflab import Batch, ModuleSession, Split
from efflab.contracts.examples import quality_batch
from efflab.contracts.task import SplitName
from efflab.profiling.quality import evaluate
from efflab.tasks.digits_clutter import DigitsClutter


class Made(Split):
    def __init__(self, count: int):
        self._count = count
        self._pixels = np.random.default_rng(0).random((64, 3, 224, 224), np.float32)

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> Batch:
        places = np.asarray(indices) % len(self._pixels)
        return Batch((self._pixels[places],), places % 10)

    def whole(self) -> None:
        return None


class Images(DigitsClutter):
    """Ten classes, as the digits have; the pixels are noise."""

    def split(self, name: SplitName) -> Split:
        return Made(COUNT)


COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    session, task = ModuleSession(net.eval(), torch.float32), Images()
    split = task.split("test")
    size = quality_batch(task, split)
    evaluate(session, task, Made(size), size)
    before = peak_mb()
    scores = evaluate(session, task, split, size)
    print(
        f"{len(scores):,} images, {size} at a time: {peak_mb() - before:.0f} MB above the runtime's own {before:.0f} MB"
    )


if __name__ == "__main__":
    main()
