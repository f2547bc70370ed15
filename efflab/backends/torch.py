"""Runs a module in eager PyTorch: the reference that defines the right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.contracts.module_session import ChannelsLast, ComputeType, ModuleSession, open_module

if TYPE_CHECKING:
    from efflab.artefacts.artefact import Artefact


class Torch(Backend):
    """Eager PyTorch on the processor."""

    takes: ClassVar[Form] = "module"
    imports: ClassVar[tuple[str, ...]] = ("torch", "efflab.contracts.module_session")

    channels_last: ChannelsLast = False
    dtype: ComputeType = "float32"

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
