"""Merges similar tokens in every block of a vision transformer (ToMe: Bolya et al. 2022, arXiv 2210.09461)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    from torch import nn

ALL = -1.0  # no two keys are less similar


class MergeTokens(Technique):
    """Merge the most similar tokens of each block between its attention and its perceptron (ToMe, Bolya et al. 2022).

    It takes rows of blocks with `norm1`, `qkv`, `out`, `heads`, `head_size`, `norm2` and `mlp`, as efflab's vision
    transformer has. Every second token looks for its likest neighbour by the keys' cosine; the best pairs become their mean,
    weighted by how many tokens each stands for. No training is needed; `finetune` after it wins some back. With
    `similarity` the work depends on the input, and a batch takes as many tokens as its example with the most.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("macs",)
    before: ClassVar[tuple[str, ...]] = ("merge_tokens",)
    rather_after: ClassVar[dict[str, str]] = {
        "prune_heads": "what is alike is judged by the keys of the heads that stay"
    }
    tiny: ClassVar[dict[str, Any]] = {"ratio": 0.25}

    ratio: Annotated[
        float, Field(gt=0, le=0.5, description="Largest share of its tokens that each block merges into other tokens.")
    ] = 0.15
    similarity: Annotated[
        float,
        Field(
            ge=ALL,
            lt=1,
            description="Least cosine of two tokens' keys at which they merge; at -1 the number of merged tokens is "
            "the same for every input.",
        ),
    ] = ALL

    def apply(self, model: Any, context: Context) -> Result:
        """Merge; raise RequestError if the model has no such blocks, or too few tokens to merge any."""
        from efflab.contracts.examples import example_inputs

        names = merge_tokens(model, self.ratio, self.similarity)
        _check(model, example_inputs(context.task), self.ratio)
        return Result(model, {"rows": names, "ratio": self.ratio, "similarity": self.similarity})

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Make the named rows of blocks merge; they keep their weights and names."""
        for name in structure["rows"]:
            _replace(module, name, structure["ratio"], structure["similarity"])
        return module

    def input_dependent(self) -> bool:
        """Return whether how many tokens merge depends on the input."""
        return self.similarity > ALL

    def no_onnx(self) -> str:
        """Return why a graph cannot hold it where the number of tokens depends on the input."""
        if not self.input_dependent():
            return ""
        return "merging by similarity leaves another number of tokens for each input, which torch's exporter cannot say"


def merge_tokens(module: nn.Module, ratio: float = 0.15, similarity: float = ALL) -> list[str]:
    """Make the rows of transformer blocks of `module` merge tokens, in place; return their names.

    ratio: share of its tokens that a block merges at most; similarity: the least cosine of two keys to merge. Raises
    RequestError if there is no nn.Sequential of blocks with norm1, qkv, out, heads, head_size, norm2 and mlp.
    """
    names = [name for name, part in module.named_modules() if name and _is_row(part)]
    if not names:
        raise RequestError(
            "merge_tokens: the model has no row (nn.Sequential) of blocks with norm1, qkv, out, heads, head_size, norm2, mlp"
        )
    for name in names:
        _replace(module, name, ratio, similarity)
    return names


def _is_row(part: Any) -> bool:
    from torch import nn

    return type(part) is nn.Sequential and len(part) > 0 and all(map(_is_block, part))


def _is_block(part: Any) -> bool:
    from torch import nn

    modules = all(isinstance(getattr(part, name, None), nn.Module) for name in ("norm1", "qkv", "out", "norm2", "mlp"))
    return modules and all(isinstance(getattr(part, name, None), int) for name in ("heads", "head_size"))


def _replace(module: nn.Module, name: str, ratio: float, similarity: float) -> None:
    from efflab.model_surgery.adaptive.token_merging import MergingRow

    module.set_submodule(name, MergingRow(module.get_submodule(name), ratio, similarity))


def _check(module: Any, inputs: Any, ratio: float) -> None:
    """Raise RequestError if a row of blocks gets too few tokens to merge any."""
    import torch

    from efflab.model_surgery.adaptive.token_merging import MergingRow

    tokens: list[int] = []
    rows = [part for part in module.modules() if isinstance(part, MergingRow)]
    handles = [row.register_forward_pre_hook(lambda _row, given: tokens.append(given[0].shape[1])) for row in rows]
    with torch.no_grad():
        module.eval()(*inputs)
    for handle in handles:
        handle.remove()
    if not int(ratio * min(tokens)):
        raise RequestError(f"merge_tokens: {min(tokens)} tokens are too few to merge any at ratio {ratio:g}")
