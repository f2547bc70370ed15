"""Token merging: bipartite soft matching between attention and perceptron of transformer blocks (arXiv 2210.09461)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class MergingRow(nn.Sequential):
    """Transformer blocks in a row that merge tokens as they go; at the end each stands again at all places it stands for.

    So what follows sees as many tokens as before, and their plain mean weighs each by its size. blocks: modules with norm1,
    qkv, out, heads, head_size, norm2 and mlp. Tokens are (N, tokens, width).
    """

    def __init__(self, blocks: Any, ratio: float, similarity: float = -1.0):
        super().__init__(*blocks)
        self.ratio, self.similarity = ratio, similarity
        self.training = blocks.training

    @property
    def input_dependent(self) -> bool:
        """Whether the work depends on the input: only pairs that are alike enough are merged."""
        return self.similarity > -1

    def forward(self, x: Tensor) -> Tensor:
        """Attend, merge and transform, block by block."""
        size: Tensor | None = None  # of each token (N, tokens): how many it stands for; None: one each
        place: Tensor | None = None  # (N, tokens of the input): which token stands for each now
        block: Any
        for block in self:
            x, keys = attend(block, x, size)
            most = int(self.ratio * x.shape[1])
            if most:
                into = match(keys, size, self.ratio, self.similarity)
                size = torch.ones_like(x[..., 0], dtype=torch.float32) if size is None else size
                # a captured step of training cannot wait for a number, and leaves places empty
                count = x.shape[1] - (0 if self.input_dependent else most)
                x, size, now = merge(x, size, into, None if self.input_dependent and not self.training else count)
                place = now if place is None else now.gather(1, place)
            x = x + block.mlp(block.norm2(x))
        return x if place is None else x.gather(1, place.unsqueeze(2).expand(-1, -1, x.shape[2]))


def attend(block: Any, x: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return tokens after a block's attention, and its keys (N, tokens, head size), the mean over heads.

    A token of size s is attended to as s tokens would be: log s is added to its scores (section 3, proportional attention).
    """
    batch, tokens, _ = x.shape
    parts = block.qkv(block.norm1(x)).reshape(batch, tokens, 3, block.heads, block.head_size).permute(2, 0, 3, 1, 4)
    bias = None if size is None else size.log()[:, None, None, :].to(parts.dtype)
    seen = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=bias)
    x = x + block.out(seen.transpose(1, 2).reshape(batch, tokens, block.heads * block.head_size))
    return x, parts[1].mean(dim=1)


@torch.no_grad()
def match(keys: Tensor, size: Tensor | None, ratio: float, similarity: float = -1.0) -> Tensor:
    """Return for each token the place of the token that it becomes part of: its own, if it stays; (N, tokens) int64.

    Tokens at even places look for their likest at odd places; the `ratio` of all tokens whose pairs are likest go, if the
    cosine of the pair is at least `similarity`. keys: (N, tokens, size); size: of each token, 0 for an empty place.
    """
    tokens = keys.shape[1]
    most = int(ratio * tokens)
    unit = functional.normalize(keys.float(), dim=2)
    alike = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
    if similarity > -1 and size is not None:
        empty = size == 0
        alike = alike.masked_fill(empty[:, ::2, None] | empty[:, None, 1::2], -2.0)
    best, target = alike.max(dim=2)
    best, going = best.topk(most, dim=1)
    into = 2 * target.gather(1, going) + 1
    if similarity > -1:
        goes = best >= similarity
        if size is not None:  # the share is of the tokens that an example has, not of its places
            limit = (ratio * (size > 0).sum(dim=1, keepdim=True).double()).int()
            goes &= torch.arange(most, device=keys.device) < limit
        into = torch.where(goes, into, 2 * going)
    return torch.arange(tokens, device=keys.device).expand(keys.shape[0], -1).scatter(1, 2 * going, into)


def merge(x: Tensor, size: Tensor, into: Tensor, count: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens after each went `into` its place, their sizes, and where each old token is now.

    A token becomes the mean of what went into it, weighted by size. The tokens keep their order; examples of a batch that
    have fewer than others end in empty places of size 0. count: places to give; None: as many as the example with most.
    """
    tokens = x.shape[1]
    total = torch.zeros_like(size).scatter_add(1, into, size)
    across = into.unsqueeze(2).expand(-1, -1, x.shape[2])
    weighted = x * size.unsqueeze(2)
    x = (torch.zeros_like(weighted).scatter_add(1, across, weighted) / total.clamp_min(1).unsqueeze(2)).to(x.dtype)
    kept = (total > 0).long()
    if count is None:
        count = int(kept.sum(dim=1).max())
    order = (torch.arange(tokens, device=x.device) - tokens * kept).argsort(dim=1)[:, :count]
    now = (kept.cumsum(dim=1) - 1).gather(1, into)
    return x.gather(1, order.unsqueeze(2).expand(-1, -1, x.shape[2])), total.gather(1, order), now
