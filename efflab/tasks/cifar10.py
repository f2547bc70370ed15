"""CIFAR-10 (Krizhevsky 2009): 32x32 colour images, 10 classes, from the official binary-version files."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from efflab.contracts.classification import Classification
from efflab.contracts.task import Split, SplitName
from efflab.foundation.datasets import DataSet, data_folder
from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest

if TYPE_CHECKING:
    import numpy as np
    import torch

FOLDER = "cifar-10-batches-bin"
FILES = {
    "train": [f"data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["test_batch.bin"],
}
ROW = 1 + 3 * 32 * 32  # label byte, then the red, green and blue planes
TRAIN_EXAMPLES = 45_000  # the remaining 5,000 of a fixed shuffle are for validation
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SOURCE = DataSet(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    bytes=170_052_171,
    holds=tuple(f"{FOLDER}/{name}" for names in FILES.values() for name in names),
    note="no licence was stated by its authors; it is given out for research with the request to cite the report",
)


class Cifar10(Classification):
    """Classify natural images. Inputs (N, 3, 32, 32) float32, normalised; targets 0..9; metric top-1 accuracy.

    45,000 / 5,000 train / validation by a fixed shuffle of the official training files; the official 10,000 test images.
    """

    version: ClassVar[int] = 1
    prepared: ClassVar[str] = f"Pixels / 255, then minus {MEAN} and over {DEVIATION} for red, green and blue."
    tiny: ClassVar[dict[str, Any]] = {}
    classes: ClassVar[int | None] = 10
    image: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    mean: ClassVar[tuple[float, ...] | None] = MEAN
    deviation: ClassVar[tuple[float, ...] | None] = DEVIATION

    def digest(self) -> str:
        """Return a digest of the files' content and of the meaning of the data (`version`)."""
        names = [name for group in FILES.values() for name in group]
        marks = "".join(_file_digest(str(path), path.stat().st_mtime_ns) for path in map(_find, names))
        return hashlib.sha256(f"{self.version} {marks}".encode()).hexdigest()

    @cached_property
    def _splits(self) -> dict[str, Split]:
        return {}

    def split(self, name: SplitName) -> Split:
        """Return a split; raise RequestError with the way to get the files if they are missing or damaged."""
        import numpy as np

        if name not in self._splits:
            rows = np.concatenate([_rows(_find(file)) for file in FILES["test" if name == "test" else "train"]])
            if name != "test":
                order = np.random.default_rng(45_000).permutation(len(rows))
                rows = rows[order[:TRAIN_EXAMPLES] if name == "train" else order[TRAIN_EXAMPLES:]]
            images = rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32)
            images /= 255.0
            images -= np.asarray(MEAN, np.float32)[:, None, None]
            images /= np.asarray(DEVIATION, np.float32)[:, None, None]
            self._splits[name] = Split((images,), rows[:, 0].astype(np.int64))
        return self._splits[name]

    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.float(), targets)

    def augment(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Mirror at random and shift by up to 4 pixels (He et al. 2015, section 4.2)."""
        from efflab.contracts.image_augmentation import random_flip, random_shift

        return random_shift(random_flip(inputs, generator), 4, generator, mode="reflect")


def _find(name: str) -> Path:
    base = data_folder() / "cifar10"
    for path in (base / FOLDER / name, base / name):
        if path.exists():
            return path
    raise RequestError(
        f"the data set cifar10 is missing ({base / FOLDER / name}); "
        "fetch it with `efflab data cifar10`, or point EFFLAB_DATA at the folder that holds cifar10/"
    )


def _rows(path: Path) -> np.ndarray:
    import numpy as np

    raw = np.fromfile(path, dtype=np.uint8)
    if len(raw) != 10_000 * ROW:
        raise RequestError(
            f"{path} is damaged: {len(raw):,} bytes instead of {10_000 * ROW:,}; fetch it again with `efflab data cifar10`"
        )
    rows = raw.reshape(-1, ROW)
    if rows[:, 0].max() > 9:
        raise RequestError(f"{path} is damaged: a label above 9; fetch it again with `efflab data cifar10`")
    return rows


_digests: dict[tuple[str, int], str] = {}


def _file_digest(path: str, modified_ns: int) -> str:
    if (path, modified_ns) not in _digests:
        _digests[path, modified_ns] = file_digest(Path(path))
    return _digests[path, modified_ns]
