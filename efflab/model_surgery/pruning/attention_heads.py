"""Attention layers by their heads: where queries, keys, values and outputs lie, in efflab's layers and Hugging Face's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from efflab.model_surgery.pruning.slicing import keep_channels


@dataclass(frozen=True)
class AttentionHeads:
    """The heads of one attention layer: linear layers whose outputs are heads side by side, and one that joins them."""

    inputs: tuple[nn.Linear, ...]  # queries, keys and values: each on its own, or all in one
    out: nn.Linear
    count: int
    size: int  # channels of one head
    tell: Callable[[int], None]  # notes a new number of heads in the layer

    def keep(self, heads: Sequence[int]) -> None:
        """Slice the layer in place to some of its heads."""
        columns = [head * self.size + place for head in heads for place in range(self.size)]
        width = self.count * self.size
        for linear in self.inputs:
            blocks = linear.out_features // width
            keep_channels(linear, [block * width + column for block in range(blocks) for column in columns])
        keep_channels(self.out, None, columns)
        self.tell(len(heads))


def attention_layers(module: nn.Module) -> dict[str, AttentionHeads]:
    """Return the attention layers of a module whose heads can be removed, by name.

    Known are layers with `heads`, `head_size`, a packed `qkv` and `out`; BERT's and its kin's (RoBERTa, ELECTRA, ViT of
    Hugging Face: `self` or `attention` with query, key, value, and `output.dense`); and DistilBERT's.
    """
    found = {name: heads for name, part in module.named_modules() for heads in (_heads(part),) if heads is not None}
    return {name: heads for name, heads in found.items() if _whole(heads)}


def _heads(part: Any) -> AttentionHeads | None:
    try:
        return next((heads for read in (_packed, _bert, _distilbert) for heads in (read(part),) if heads), None)
    except AttributeError:
        return None


def _packed(part: Any) -> AttentionHeads | None:
    if not hasattr(part, "qkv") or not hasattr(part, "head_size"):
        return None

    def tell(count: int) -> None:
        part.heads = count

    return AttentionHeads((part.qkv,), part.out, part.heads, part.head_size, tell)


def _bert(part: Any) -> AttentionHeads | None:
    inner: Any = getattr(part, "self", None) or getattr(part, "attention", None)
    if not hasattr(inner, "query") or not hasattr(inner, "num_attention_heads"):
        return None
    if str(getattr(inner, "position_embedding_type", "absolute")) not in ("absolute", "None"):
        return None  # positions are multiplied in head by head

    def tell(count: int) -> None:
        inner.num_attention_heads = count
        inner.all_head_size = count * inner.attention_head_size

    linears = (inner.query, inner.key, inner.value)
    return AttentionHeads(linears, part.output.dense, inner.num_attention_heads, inner.attention_head_size, tell)


def _distilbert(part: Any) -> AttentionHeads | None:
    if not hasattr(part, "q_lin") or not hasattr(part, "n_heads"):
        return None
    size = part.dim // part.n_heads

    def tell(count: int) -> None:
        part.n_heads, part.dim = count, count * size

    return AttentionHeads((part.q_lin, part.k_lin, part.v_lin), part.out_lin, part.n_heads, size, tell)


def _whole(heads: AttentionHeads) -> bool:
    """Say whether the layers are linear and as wide as the heads that they are said to have."""
    layers = (*heads.inputs, heads.out)
    if not all(isinstance(layer, nn.Linear) for layer in layers) or type(heads.count) is not int:
        return False
    width = heads.count * heads.size
    outputs = sum(layer.out_features for layer in heads.inputs)
    return outputs == 3 * width and heads.out.in_features == width
