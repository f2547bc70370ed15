"""Runs a module compiled by torch.compile (Ansel et al. 2024, PyTorch 2) for one static batch size."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.contracts.module_session import ChannelsLast, ComputeType, ModuleSession, open_module

if TYPE_CHECKING:
    from efflab.artefacts.artefact import Artefact

MOST_SHAPES = 64  # of inputs for which a module is compiled
COMPILERS = ("g++", "clang++", "c++")


class TorchCompile(Backend):
    """PyTorch with TorchInductor; needs a C++ compiler, and seconds to minutes to prepare."""

    takes: ClassVar[Form] = "module"
    imports: ClassVar[tuple[str, ...]] = ("torch", "efflab.contracts.module_session")

    channels_last: ChannelsLast = False
    dtype: ComputeType = "float32"
    freeze: Annotated[
        bool, Field(description="Treat the weights as constants, so that the compiler can fold and repack them.")
    ] = False

    @classmethod
    def available(cls) -> str | None:
        """Say which compiler is missing, if none is found."""
        wanted = os.environ.get("CXX")
        if any(shutil.which(name) for name in ([wanted] if wanted else COMPILERS)):
            return None
        missing = f"CXX={wanted}" if wanted else ", ".join(COMPILERS)
        return f"torch.compile needs a C++ compiler and finds none ({missing}): install one, e.g. apt-get install g++"

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Load the module and compile it for the example's shapes."""
        import torch
        import torch._dynamo.config as dynamo
        import torch._inductor.config as inductor

        from efflab.foundation.quiet import quiet

        module, dtype = open_module(artefact, self.dtype, threads)
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # beyond its limit of shapes PyTorch would go on without compiling, and its times would be believed
        dynamo.recompile_limit, dynamo.fail_on_recompile_limit_hit = MOST_SHAPES, True
        session = ModuleSession(torch.compile(module, dynamic=False), dtype, self.channels_last)
        with quiet(), inductor.patch(freezing=self.freeze):
            session(example)
        return session
