"""Image augmentation on tensors, with no image library."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def random_shift(images: Tensor, reach: int, generator: torch.Generator, mode: str = "constant") -> Tensor:
    """Shift each image (N, C, H, W) by up to `reach` pixels a side; the rim is filled as `pad` mode says."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (reach, reach, reach, reach), mode=mode)
    # drawn on the processor: the same images on every device
    offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator).to(images.device)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    example = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (N, C, H, W) left to right with probability one half."""
    flipped = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def shrunk(images: Tensor, scale: float) -> Tensor:
    """Shrink images (N, C, H, W) to `scale` of their sides, in steps of 4 pixels, averaging what falls together.

    Anything passes unchanged at scale 1.
    """
    if scale == 1:
        return images
    height, width = images.shape[2:]
    return functional.interpolate(images, shrunk_sides(height, width, scale), mode="bilinear", antialias=True)


def shrunk_sides(height: int, width: int, scale: float) -> tuple[int, int]:
    """Return the sides in pixels of an image of height x width after `shrunk`."""
    return max(4, 4 * round(height * scale / 4)), max(4, 4 * round(width * scale / 4))
