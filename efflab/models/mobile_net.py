"""Depthwise-separable networks for small images: inverted residuals with linear bottlenecks (Sandler et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by itself, narrow by 1x1; a shortcut where shapes allow (section 3.3)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int):
        super().__init__()
        wide = channels_in * expansion
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out),
        )  # fmt: skip
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Filter, and add the shortcut if there is one."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNet(nn.Module):
    """A stem, three stages of inverted residuals (widths w, 2w, 4w), global average pooling, and one linear layer."""

    def __init__(self, width: int, blocks: int, channels: int, classes: int, expansion: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
        layers: list[nn.Module] = []
        for stage, (before, wide) in enumerate(((width, width), (width, 2 * width), (2 * width, 4 * width))):
            layers.append(InvertedResidual(before, wide, 1 if stage == 0 else 2, expansion))
            layers += [InvertedResidual(wide, wide, 1, expansion) for _ in range(blocks - 1)]
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, channels, H, W)."""
        logits: Tensor = self.linear(self.layers(self.stem(x)).mean(dim=(2, 3)))
        return logits


def mobile_net(width: int = 8, blocks: int = 2, channels: int = 3, classes: int = 10, expansion: int = 4) -> MobileNet:
    """Build a network with fresh weights; `blocks` is the number of inverted residuals of a stage."""
    return MobileNet(width, blocks, channels, classes, expansion)
