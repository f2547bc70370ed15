"""Runs a module in PyTorch on an NVIDIA GPU: eagerly, compiled, or as a CUDA graph, in 32 or 16 bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.contracts.module_session import ChannelsLast, ModuleSession, open_module
from efflab.foundation.errors import Unavailable

if TYPE_CHECKING:
    import torch

    from efflab.artefacts.artefact import Artefact

WARM_CALLS = 3  # before capture, as PyTorch asks for: libraries choose their kernels on the first calls


class TorchCuda(Backend):
    """PyTorch on the first GPU; `mode: graph` replays one captured graph a batch shape, free of launch costs."""

    takes: ClassVar[Form] = "module"
    device: ClassVar[str] = "cuda"

    mode: Annotated[
        Literal["eager", "compile", "graph"],
        Field(
            description="How the model runs: one operator after the other (`eager`), compiled by torch.compile "
            "(`compile`), or as a replayed CUDA graph (`graph`)."
        ),
    ] = "eager"
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"],
        Field(description="Floating-point type in which a float32 model computes; a 16-bit model keeps its own type."),
    ] = "float32"
    channels_last: ChannelsLast = False
    tf32: Annotated[
        bool,
        Field(
            description="Let float32 products round their factors to 10 bits (TF32), as PyTorch's convolutions do by "
            "default: faster, but less exact."
        ),
    ] = False

    @classmethod
    def available(cls) -> str | None:
        """Say that there is no GPU, or PyTorch does not find it."""
        if shutil.which("nvidia-smi") is None and not Path("/dev/nvidia0").exists():
            return "no NVIDIA GPU is found here: it needs one with its driver, and PyTorch built with CUDA"
        import torch

        if torch.cuda.is_available():
            return None
        built = "this build of PyTorch has no CUDA" if torch.version.cuda is None else "PyTorch does not find the GPU"
        return f"{built}: pip install torch --index-url https://download.pytorch.org/whl/cu128"

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Move the module to the GPU and compile or capture it; raise Unavailable for a type that the GPU lacks."""
        import torch

        if self.dtype == "bfloat16" and not torch.cuda.is_bf16_supported():
            raise Unavailable("this GPU has no bfloat16 arithmetic")
        opened, dtype = open_module(artefact, self.dtype, threads)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        module: Any = opened.cuda()
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        if self.mode == "compile":
            module = torch.compile(module, dynamic=False)
        kind = GraphSession if self.mode == "graph" else CudaSession
        session = kind(module, dtype, self.channels_last)
        session(example)
        return session


class CudaSession(ModuleSession):
    """Calls return before the GPU has finished; `wait` waits for it."""

    def load(self, inputs: Arrays) -> Any:
        """Copy arrays to the GPU and wait until they are there."""
        import torch

        tensors = [tensor.cuda() for tensor in super().load(inputs)]
        torch.cuda.synchronize()
        return tensors

    def wait(self) -> None:
        """Wait for all work of the GPU."""
        import torch

        torch.cuda.synchronize()


class GraphSession(CudaSession):
    """Replays one captured graph for each set of input shapes; the captured tensors are its inputs and outputs."""

    def __init__(self, module: Any, dtype: torch.dtype, channels_last: bool = False):
        super().__init__(module, dtype, channels_last)
        self.graphs: dict[tuple[tuple[int, ...], ...], tuple[Any, Any, Any]] = {}

    def load(self, inputs: Arrays) -> Any:
        """Copy arrays into the inputs of the graph for their shapes, captured the first time."""
        import torch

        tensors = super().load(inputs)
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        if shapes not in self.graphs:
            self.graphs[shapes] = self._capture(tensors)
        graph, given, outputs = self.graphs[shapes]
        for target, tensor in zip(given, tensors, strict=True):
            target.copy_(tensor)
        torch.cuda.synchronize()
        return graph, outputs

    def run(self, loaded: Any) -> Any:
        """Replay."""
        graph, outputs = loaded
        graph.replay()
        return outputs

    def _capture(self, tensors: list[torch.Tensor]) -> tuple[Any, Any, Any]:
        import torch

        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), self.inference():
            for _ in range(WARM_CALLS):
                self.module(*tensors)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), self.inference():
            outputs = self.module(*tensors)
        return graph, tensors, outputs
