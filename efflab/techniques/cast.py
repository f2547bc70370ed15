"""Stores and computes in 16-bit floating point (mixed precision: Micikevicius et al. 2018, arXiv 1710.03740)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import torch


class Cast(Technique):
    """Store and compute in bfloat16 or float16: half the bytes (Micikevicius et al. 2018).

    It helps where the processor has 16-bit arithmetic (AVX512-BF16, AMX, tensor cores); elsewhere it only saves memory.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("bit_operations", "artefact_bytes")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_channels": "channels are ranked by weights that are not rounded yet",
        "prune_weights": "weights are ranked by magnitudes that are not rounded yet",
        "low_rank": "singular vectors are rounded once, not made of rounded weights",
        "reestimate_norms": "statistics are means over many batches, which 16 bits round",
    }
    tiny: ClassVar[dict[str, Any]] = {"dtype": "bfloat16"}

    dtype: Annotated[
        Literal["bfloat16", "float16"],
        Field(description="Floating-point type of 16 bits in which the model stores its weights and computes."),
    ] = "bfloat16"

    def no_onnx(self) -> str:
        """Return why bfloat16 modules are not exported."""
        exportable = self.dtype != "bfloat16"
        return (
            "" if exportable else "ONNX runtimes take no bfloat16 graphs; let the backend compute in bfloat16 instead"
        )

    def apply(self, model: Any, context: Context) -> Result:
        """Cast; raise RequestError if the model has this dtype already."""
        return Result(cast(model, self.dtype), {"dtype": self.dtype})

    @classmethod
    def rebuild(cls, module: torch.nn.Module, structure: dict[str, Any]) -> torch.nn.Module:
        """Cast a fresh module, its unsaved buffers included."""
        import torch

        return module.to(getattr(torch, structure["dtype"]))


def cast(module: torch.nn.Module, dtype: Literal["bfloat16", "float16"] = "bfloat16") -> torch.nn.Module:
    """Cast all floating-point parameters and buffers of `module` in place; raise RequestError if none changes."""
    import torch

    wanted: torch.dtype = getattr(torch, dtype)
    floating = [tensor for tensor in module.state_dict().values() if tensor.is_floating_point()]
    if all(tensor.dtype == wanted for tensor in floating):
        raise RequestError(f"cast: the model is {dtype} already")
    return module.to(wanted)
