"""What scoring in batches takes: peak memory of a split that does not fit in memory, and time against a bare loop over one array.

    python benchmarks/streaming.py [images]        (default: 20,000 images of 224 x 224, 12 GB as one float32 array)

The large images are made when their batch is asked for, as a folder of files would give them. The times are those of 10,000
images of CIFAR-10's size, noise like the others, in turn: efflab's scoring, and the same calls over slices of the array.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from statistics import median

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


def seconds_in_turn(rounds: int = 5) -> tuple[float, float]:
    """Return the medians of (efflab's scoring, a bare loop over one array) on small images."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    session, task = ModuleSession(net.eval(), torch.float32), Images()
    pixels = np.random.default_rng(0).random((10_000, 3, 32, 32), np.float32)
    split = Split((pixels,), np.arange(10_000) % 10)
    size = quality_batch(task, split)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        started = time.perf_counter()
        evaluate(session, task, split, size)
        between = time.perf_counter()
        outputs = np.concatenate([session((pixels[at : at + size],)) for at in range(0, len(pixels), size)])
        task.scores(outputs, split.targets)
        times[0].append(between - started)
        times[1].append(time.perf_counter() - between)
    return median(times[0]), median(times[1])


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
    ours, bare = seconds_in_turn()
    print(f"10,000 images of 32x32: {ours:.2f} s, {ours / bare:.3f} of a bare loop over the array")


if __name__ == "__main__":
    main()
