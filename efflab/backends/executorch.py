"""Runs a module in ExecuTorch, lowered to XNNPACK's kernels and compiled for one static batch size."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.contracts.module_session import open_module
from efflab.foundation.errors import Unavailable

if TYPE_CHECKING:
    import torch

    from efflab.artefacts.artefact import Artefact


class Executorch(Backend):
    """ExecuTorch; `delegate` chooses XNNPACK's kernels or the portable ones, which are a slow reference in C++."""

    takes: ClassVar[Form] = "module"
    extra: ClassVar[str | None] = "executorch"

    delegate: Annotated[
        Literal["xnnpack", "portable"],
        Field(
            description="Kernels that run the model: the fast ones of XNNPACK, or the slow portable ones of ExecuTorch."
        ),
    ] = "xnnpack"

    @classmethod
    def available(cls) -> str | None:
        """Say how to install it, if it is missing."""
        missing = importlib.util.find_spec("executorch") is None
        return 'executorch is not installed: pip install "efflab[executorch]"' if missing else None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Export and lower the module for the example's shapes; raise Unavailable for modules of 16 bits."""
        import torch

        module, dtype = open_module(artefact, "float32", threads)
        if dtype != torch.float32:
            raise Unavailable(f"XNNPACK takes float32 modules here, this one is of {str(dtype).removeprefix('torch.')}")
        _set_threads(threads)
        session = ExecutorchSession(module, self.delegate)
        session(example)
        return session


class ExecutorchSession(Session):
    """One module, lowered anew for every set of input shapes that it meets."""

    def __init__(self, module: torch.nn.Module, delegate: str):
        self.module, self.delegate = module, delegate
        self.methods: dict[tuple[tuple[int, ...], ...], Any] = {}

    def load(self, inputs: Arrays) -> Any:
        """Copy arrays to tensors and return them with the method for their shapes."""
        import torch

        tensors = tuple(torch.tensor(array) for array in inputs)
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        if shapes not in self.methods:
            self.methods[shapes] = lower(self.module, tensors, self.delegate)
        return self.methods[shapes], tensors

    def run(self, loaded: Any) -> Any:
        """Execute the method."""
        method, tensors = loaded
        return method.execute(tensors)

    def fetch(self, outputs: Any) -> Any:
        """Copy outputs to arrays: the next call writes into the same memory."""
        arrays = tuple(output.numpy(force=True).copy() for output in outputs if output is not None)
        return arrays[0] if len(arrays) == 1 else arrays

    def fallbacks(self) -> dict[str, str]:
        """Return the operators that XNNPACK did not take and the portable kernels run."""
        if self.delegate == "portable":
            return {}
        names = {name for method in self.methods.values() for name in method.portable}
        return dict.fromkeys(sorted(names), "portable kernels")


class Method:
    """A loaded method with the program that it belongs to, which must outlive it."""

    def __init__(self, buffer: bytes, portable: list[str]):
        from executorch.runtime import Runtime

        self.program = Runtime.get().load_program(buffer)
        self.method = self.program.load_method("forward")
        self.execute = self.method.execute
        self.portable = portable


def lower(module: torch.nn.Module, example: tuple[torch.Tensor, ...], delegate: str) -> Method:
    """Return the module as an ExecuTorch method for the shapes of `example`."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from efflab.foundation.quiet import quiet

    with quiet(), torch.no_grad():
        exported = torch.export.export(module, example, strict=False)
        edge = to_edge_transform_and_lower(
            exported, partitioner=[XnnpackPartitioner()] if delegate == "xnnpack" else []
        )
        portable = [
            node.target.name().split("::")[-1].split(".")[0]
            for node in edge.exported_program().graph.nodes
            if node.op == "call_function" and hasattr(node.target, "name") and "call_delegate" not in str(node.target)
        ]
        return Method(edge.to_executorch().buffer, portable)


def _set_threads(threads: int) -> None:
    """Set the number of threads of ExecuTorch's own pool."""
    from executorch.extension.pybindings import portable_lib

    if hasattr(portable_lib, "_unsafe_reset_threadpool"):
        portable_lib._unsafe_reset_threadpool(threads)
