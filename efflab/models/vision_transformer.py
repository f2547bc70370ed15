"""A small vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929): patches, pre-norm encoder, mean of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class EncoderBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each behind a layer norm and around a shortcut."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.head_size = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Attend and transform tokens (N, tokens, width)."""
        batch, tokens, _ = x.shape
        parts = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, self.head_size).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = x + self.out(seen.transpose(1, 2).reshape(batch, tokens, self.heads * self.head_size))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class VisionTransformer(nn.Module):
    """Patches by a strided convolution, learned positions, encoder blocks, and one linear layer on the mean token."""

    def __init__(self, width: int, depth: int, heads: int, size: int, patch: int, channels: int, classes: int):
        super().__init__()
        if size % patch or width % heads:
            raise ValueError("size must be a multiple of patch, and width of heads")
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(depth)))
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, channels, size, size)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.linear(self.norm(self.blocks(tokens)).mean(dim=1))
        return logits


def vision_transformer(
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    size: int = 24,
    patch: int = 4,
    channels: int = 3,
    classes: int = 10,
) -> VisionTransformer:
    """Build a transformer with fresh weights for square images of `size` pixels."""
    return VisionTransformer(width, depth, heads, size, patch, channels, classes)
