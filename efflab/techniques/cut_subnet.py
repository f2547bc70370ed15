"""Cuts a sub-net out of a network: its first channels and blocks (Yu et al. 2019, arXiv 1812.08928)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

BATCH = 128  # examples by which the norms are measured


class CutSubnet(Technique):
    """Keep the first channels of every layer and the first blocks of every stage, and measure the norms anew (Yu et al. 2019).

    It takes seconds and no training: that is done once, by `train_supernet`, for sub-nets of all sizes. Statistics of batch
    norms belong to one size only, so they are measured on training examples, without labels (Yu & Huang 2019, arXiv
    1903.05134, section 3.4).
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("macs", "params", "artefact_bytes")
    rather_after: ClassVar[dict[str, str]] = {
        "train_supernet": "the first channels of a net that was not trained for it are no better than any others",
    }
    tiny: ClassVar[dict[str, Any]] = {"width": 0.5, "calibration_examples": 128}

    width: Annotated[float, Field(gt=0, le=1, description="Share of the channels of every layer that stay.")] = 0.5
    blocks: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | None,
        Field(
            description="Number of blocks of each stage that stay, all by default; the model must name its `stages`, "
            "as ResNets do."
        ),
    ] = None
    calibration_examples: Annotated[
        int,
        Field(
            ge=8,
            le=1_000_000,
            description="Number of training examples on which the statistics of the batch norms are measured.",
        ),
    ] = 2048

    @model_validator(mode="after")
    def _cuts(self) -> Self:
        if self.width == 1 and self.blocks is None:
            raise ValueError("width 1 with all blocks is the whole net: lower width, or give blocks")
        return self

    def apply(self, model: Any, context: Context) -> Result:
        """Cut; raise RequestError if there is nothing to cut, or the model cannot be cut so."""
        from efflab.contracts.examples import calibration_batches, example_inputs

        batches = calibration_batches(context.task, self.calibration_examples, BATCH)
        return Result(model, cut_subnet(model, example_inputs(context.task), self.width, self.blocks, batches))

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Keep the channels and blocks that `structure` names."""
        from efflab.model_surgery.adaptive.subnets import keep_subnet

        return keep_subnet(module, structure)


def cut_subnet(
    module: nn.Module,
    example: Sequence[Tensor],
    width: float = 0.5,
    blocks: int | None = None,
    batches: Iterable[tuple[np.ndarray, ...]] = (),
) -> dict[str, Any]:
    """Cut `module` in place and return what it keeps, as plain JSON data.

    width: share of the channels of every layer. blocks: of every stage, None keeps all. example: inputs of one small batch.
    batches: inputs on which batch norms are measured anew; without any they keep their first statistics.
    Raises RequestError if there is nothing to cut, or the module cannot be cut so.
    """
    from efflab.model_surgery.adaptive.subnets import cut, keep_subnet
    from efflab.model_surgery.pruning.norm_statistics import measure_norms

    structure = cut(module, example, width, blocks)
    keep_subnet(module, structure)
    inputs = list(batches)
    if inputs:
        measure_norms(module, inputs)
    return structure
