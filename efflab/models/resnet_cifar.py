"""Residual networks for small images (He et al. 2015, section 4.2), with 1x1-convolution or padded shortcuts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class PaddedShortcut(nn.Module):
    """Option A of He et al.: every second pixel, new channels filled with zeros, half on each side; no weights."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.missing = channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """Shrink and pad."""
        front = self.missing // 2
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, front, self.missing - front))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norms around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = (
                PaddedShortcut(channels_in, channels_out)
                if shortcut == "A"
                else nn.Sequential(
                    nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """Add the two paths."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNetCifar(nn.Module):
    """A stem, three stages of basic blocks (widths w, 2w, 4w), global average pooling, and one linear layer."""

    stages = ("layer1", "layer2", "layer3")

    def __init__(self, width: int, blocks: int, channels: int, classes: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width]
        for stage in (1, 2, 3):
            layers = [BasicBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2, shortcut)]
            layers += [BasicBlock(widths[stage], widths[stage], 1, shortcut) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, channels, H, W)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def resnet_cifar(
    width: int = 16, blocks: int = 3, channels: int = 3, classes: int = 10, shortcut: str = "B"
) -> nn.Module:
    """Build a ResNet of 6 x blocks + 2 layers. Takes float images (N, channels, H, W), gives logits (N, classes).

    width: channels of the first stage. blocks: basic blocks a stage (3 -> ResNet-20, 9 -> ResNet-56).
    Raises ValueError for sizes below 1 or a shortcut other than "A" or "B".
    """
    if min(width, blocks, channels, classes) < 1:
        raise ValueError("width, blocks, channels and classes must be at least 1")
    if shortcut not in ("A", "B"):
        raise ValueError("shortcut must be 'A' (padded) or 'B' (1x1 convolution)")
    return ResNetCifar(width, blocks, channels, classes, shortcut)
