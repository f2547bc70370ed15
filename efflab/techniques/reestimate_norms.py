"""Measures the statistics of batch norms anew (Li et al. 2020, "EagleEye", arXiv 2007.02491, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class ReestimateNorms(Technique):
    """Measure means and variances of batch norms anew on training examples: recovery without training (Li et al. 2020).

    It helps right after pruning or low rank, before `export_onnx` folds the norms; it takes seconds and no labels.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    supports: ClassVar[bool] = True
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "statistics measured before are those of sums that lost channels since (Li et al. 2020)",
        "prune_weights": "statistics measured before are those of sums that lost weights since (Li et al. 2020)",
        "low_rank": "statistics measured before are those of layers that are gone",
    }
    tiny: ClassVar[dict[str, Any]] = {"examples": 128}

    examples: Annotated[
        int,
        Field(
            ge=8,
            le=1_000_000,
            description="Number of training examples on which the statistics of the batch norms are measured.",
        ),
    ] = 2048
    batch_size: Annotated[
        int,
        Field(
            ge=2,
            le=8192,
            description="Number of examples in one forward pass; the statistics are means over these batches.",
        ),
    ] = 128

    def apply(self, model: Any, context: Context) -> Result:
        """Measure; raise RequestError if the model has no batch norm with statistics."""
        from efflab.contracts.examples import calibration_batches

        reestimate_norms(model, calibration_batches(context.task, self.examples, self.batch_size))
        return Result(model)


def reestimate_norms(module: nn.Module, batches: Iterable[tuple[np.ndarray, ...]]) -> None:
    """Set the running statistics of all batch norms of `module` in place to their means over the batches.

    Only norms are put in training mode, so dropout stays off. Raises RequestError if there are none.
    """
    from efflab.model_surgery.pruning.norm_statistics import measure_norms

    if not measure_norms(module, batches):
        raise RequestError("reestimate_norms: the model has no batch norm with running statistics")
