"""Runs a module in eager PyTorch: the reference that defines the right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.contracts.module_session import ModuleSession, open_module

if TYPE_CHECKING:
    from efflab.artefacts.artefact import Artefact


class Torch(Backend):
    """Eager PyTorch on the processor."""

    takes: ClassVar[Form] = "module"

    channels_last: Annotated[bool, Field(description="Store images in memory with the channels last (N, H, W, C).")] = (
        False
    )
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="Floating-point type in which a float32 model computes; a 16-bit model keeps its own type."),
    ] = "float32"

    @classmethod
    def available(cls) -> str | None:
        """PyTorch is always there."""
        return None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Load the module and call it once."""
        import torch

        module, dtype = open_module(artefact, self.dtype, threads)
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        session = ModuleSession(module, dtype, self.channels_last)
        session(example)
        return session
