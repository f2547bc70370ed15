"""What techniques cost beside what they call: a cut of a ResNet-50, calibration by the bare library, memory of calibration.

    python benchmarks/techniques.py

The two sides of the ratio take turns in one run; memory is of a process of its own for each number of images.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

IMAGES, ROUNDS = 512, 5
MEMORY_OF = (128, 512, 2048)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut (He et al. 2015, figure 5)."""

    def __init__(self, channels_in: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.shortcut = nn.Identity() if stride == 1 and channels_in == out else nn.Sequential(
            nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Add the two paths."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """A ResNet-50 for 224 x 224 images: 25.6 million parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(channels, width, stride if block == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def cut_seconds() -> float:
    """Seconds of one cut on one thread."""
    from efflab.techniques.prune_channels import prune_channels

    torch.set_num_threads(1)
    times = []
    for _ in range(3):
        module = resnet50().eval()
        start = time.perf_counter()
        prune_channels(module, torch.randn(2, 3, 64, 64), 0.5)
        times.append(time.perf_counter() - start)
    return median(times)


def graph(folder: Path) -> Path:
    from efflab.models.resnet_cifar import resnet_cifar
    from efflab.techniques.export_onnx import export_onnx

    torch.manual_seed(0)
    path = folder / "float.onnx"
    export_onnx(resnet_cifar(16, 3).eval(), path, torch.randn(2, 3, 32, 32))
    return path


def batches(images: int) -> list[tuple[np.ndarray, ...]]:
    data = np.random.default_rng(0).standard_normal((images, 3, 32, 32), dtype=np.float32)
    return [(data[at : at + 32],) for at in range(0, images, 32)]


def bare(source: Path, target: Path, data: list[tuple[np.ndarray, ...]]) -> None:
    """Call onnxruntime's quantiser as its documentation does."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(data)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.rest, None)
            return None if batch is None else {name: batch[0]}

    import onnx

    name = onnx.load(str(source)).graph.input[0].name
    prepared = target.with_suffix(".prepared")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(target), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip


def quantization_ratio(folder: Path) -> float:
    from efflab.foundation.quiet import quiet
    from efflab.techniques.quantize_static import quantize_static

    source, data = graph(folder), batches(IMAGES)
    seconds: dict[str, list[float]] = {"efflab": [], "bare": []}
    for number in range(ROUNDS):
        for side in ("efflab", "bare") if number % 2 else ("bare", "efflab"):
            start = time.perf_counter()
            with quiet():
                if side == "bare":
                    bare(source, folder / "bare.onnx", data)
                else:
                    quantize_static(source, folder / "ours.onnx", data)
            seconds[side].append(time.perf_counter() - start)
    return median(seconds["efflab"]) / median(seconds["bare"])


def peak_mb(images: int) -> float:
    """Peak memory of a calibration beyond that of the images themselves, in MB."""
    out = subprocess.run([sys.executable, __file__, "memory", str(images)], check=True, capture_output=True, text=True)
    return float(out.stdout.split()[-1])


def memory_of(images: int) -> None:
    import resource

    from efflab.techniques.quantize_static import quantize_static

    with tempfile.TemporaryDirectory() as name:
        source = graph(Path(name))
        data = batches(images)
        own = sum(batch[0].nbytes for batch in data)
        quantize_static(source, Path(name) / "q.onnx", data, "mse")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - own) / 1e6)


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        memory_of(int(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            ("prune_channels on a ResNet-50, s on one thread", f"{cut_seconds():.1f}", "<= 10"),
            (
                f"quantize_static, {IMAGES} images / the bare library",
                f"{quantization_ratio(Path(folder)):.2f}",
                "<= 1.1",
            ),
        ]
    memory = [peak_mb(images) for images in MEMORY_OF]
    rows.append(
        (
            f"peak memory with {', '.join(map(str, MEMORY_OF))} images, MB",
            " ".join(f"{mb:.0f}" for mb in memory),
            "flat",
        )
    )
    for what, value, wanted in rows:
        print(f"  {what:<52} {value:>14}   wanted {wanted}")


if __name__ == "__main__":
    main()
