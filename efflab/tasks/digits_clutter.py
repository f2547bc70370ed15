"""Real handwritten digits (scikit-learn's bundled UCI set), placed at random on a cluttered 24x24 canvas; needs no download."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.contracts.classification import Classification
from efflab.contracts.task import Split, SplitName

if TYPE_CHECKING:
    import numpy as np
    import torch

SIZE = 24  # side of the canvas, pixels
SIDE = 8  # side of a source image, pixels
MEAN, DEVIATION = 0.102, 0.261  # of the training split, rounded
SOURCES = {
    "train": (0, 1080),
    "validation": (1080, 1260),
    "test": (1260, 1797),
}  # ranges of a fixed shuffle of the images
MEAN, DEVIATION = 0.102, 0.261  # of the training split, rounded
STREAMS = {"train": 1, "validation": 2, "test": 3}


class DigitsClutter(Classification):
    """Classify the whole digit on the canvas. Inputs (N, 1, 24, 24) float32; targets 0..9; metric top-1 accuracy.

    The 1,797 source images are split first (60 / 10 / 30 %), so no image occurs in two splits. Each example then takes
    one image, scaled 0.9-1.9x, turned by up to 40 degrees, sheared and shifted, over fragments of other digits of the
    same split and noise.
    """

    version: ClassVar[int] = 1
    prepared: ClassVar[str] = f"The canvas (0 paper, 1 ink, with noise), then minus {MEAN} and over {DEVIATION}."
    tiny: ClassVar[dict[str, Any]] = {"train": 512, "validation": 128, "test": 256}
    classes: ClassVar[int | None] = 10
    image: ClassVar[tuple[int, int, int] | None] = (1, SIZE, SIZE)
    mean: ClassVar[tuple[float, ...] | None] = (MEAN,)
    deviation: ClassVar[tuple[float, ...] | None] = (DEVIATION,)

    train: Annotated[int, Field(ge=16, le=1_000_000, description="Number of training examples to generate.")] = 20_000
    validation: Annotated[int, Field(ge=16, le=1_000_000, description="Number of validation examples to generate.")] = (
        2_000
    )
    test: Annotated[int, Field(ge=16, le=1_000_000, description="Number of test examples to generate.")] = 10_000
    data_seed: Annotated[
        int, Field(ge=0, description="Seed of the random choices by which the examples are generated.")
    ] = 0

    def digest(self) -> str:
        """Return a digest of the settings and of the meaning of the data (`version`)."""
        return hashlib.sha256(json.dumps([self.version, self.model_dump()], sort_keys=True).encode()).hexdigest()

    @cached_property
    def _images(self) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(20200710).permutation(len(labels))
        return (images.reshape(-1, SIDE, SIDE)[order] / 16.0).astype(np.float32), labels[order].astype(np.int64)

    @cached_property
    def _splits(self) -> dict[str, Split]:
        return {}

    def split(self, name: SplitName) -> Split:
        """Return a split, drawn once from `data_seed`."""
        import numpy as np

        if name not in self._splits:
            first, last = SOURCES[name]
            images, labels = self._images[0][first:last], self._images[1][first:last]
            generator = np.random.default_rng([self.data_seed, STREAMS[name]])
            self._splits[name] = _compose(images, labels, getattr(self, name), generator)
        return self._splits[name]

    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.float(), targets)

    def augment(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Shift each image by up to 2 pixels."""
        from efflab.contracts.image_augmentation import random_shift

        return random_shift(inputs, 2, generator)


def _compose(images: np.ndarray, labels: np.ndarray, count: int, generator: np.random.Generator) -> Split:
    import numpy as np

    chosen = generator.integers(len(images), size=count)
    canvas = _warp(images[chosen], generator, scale=(0.9, 1.9), degrees=40.0, reach=4.0)
    for _ in range(3):
        other = images[generator.integers(len(images), size=count)]
        clutter = _warp(_fragment(other, generator), generator, scale=(0.9, 1.9), degrees=180.0, reach=10.0)
        canvas = np.maximum(canvas, clutter * generator.uniform(0.4, 0.9, (count, 1, 1)).astype(np.float32))
    canvas += 0.15 * generator.standard_normal(canvas.shape, dtype=np.float32)
    normalised = (canvas - MEAN) / DEVIATION
    return Split((normalised[:, None].astype(np.float32),), labels[chosen])


def _fragment(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Keep a random 4x4 piece of each image, so that clutter looks like strokes but is no digit."""
    import numpy as np

    rows, columns = generator.integers(0, SIDE - 3, (2, len(images), 1))
    index = np.arange(SIDE)
    row_mask = (index >= rows) & (index < rows + 4)
    column_mask = (index >= columns) & (index < columns + 4)
    kept: np.ndarray = images * (row_mask[:, :, None] & column_mask[:, None, :])
    return kept


def _warp(
    images: np.ndarray, generator: np.random.Generator, scale: tuple[float, float], degrees: float, reach: float
) -> np.ndarray:
    """Place each 8x8 image on its canvas by a random affine map with bilinear sampling; gives (N, 24, 24)."""
    import numpy as np

    count, side = len(images), SIDE + 2  # a rim of zeros, so that sampling outside gives zero
    angle = np.deg2rad(generator.uniform(-degrees, degrees, count))
    zoom = generator.uniform(*scale, (2, count))
    shear = generator.uniform(-0.25, 0.25, count)
    shift = generator.uniform(-reach, reach, (2, count))
    grid = (np.arange(SIZE) - (SIZE - 1) / 2).astype(np.float32)
    y, x = grid[None, :, None], grid[None, None, :]
    column, row = np.empty((2, count, SIZE, SIZE), np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    # source = zoom^-1 . shear . rotation . (canvas - shift), one affine form a coordinate
    for target, (by_y, by_x), size in (
        (row, (cos, -sin), zoom[0]),
        (column, (sin + shear * cos, cos - shear * sin), zoom[1]),
    ):
        by_y, by_x = by_y / size, by_x / size
        offset = (SIDE + 1) / 2 - by_y * shift[0] - by_x * shift[1]
        terms = [term.astype(np.float32)[:, None, None] for term in (by_y, by_x, offset)]
        np.clip(terms[0] * y + terms[1] * x + terms[2], 0, side - 1.001, out=target)
    top, left = row.astype(np.int32), column.astype(np.int32)
    down, right = row - top, column - left
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1))).reshape(-1)
    corner = (np.arange(count, dtype=np.int32) * side * side)[:, None, None] + top * side + left
    upper = padded[corner] * (1 - right) + padded[corner + 1] * right
    lower = padded[corner + side] * (1 - right) + padded[corner + side + 1] * right
    warped: np.ndarray = upper * (1 - down) + lower * down
    return warped
