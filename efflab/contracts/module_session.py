"""What the backends that run a torch module share: arrays to tensors, one call, tensors to arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from efflab.contracts.backend import Arrays, Session

if TYPE_CHECKING:
    import torch

    from efflab.artefacts.artefact import Artefact

# settings that the backends of torch modules share
ChannelsLast = Annotated[bool, Field(description="Store images in memory with the channels last (N, H, W, C).")]
ComputeType = Annotated[
    Literal["float32", "bfloat16"],
    Field(description="Floating-point type in which a float32 model computes; a 16-bit model keeps its own type."),
]


class ModuleSession(Session):
    """Calls `module` on tensors of its own floating dtype; outputs become float32 arrays."""

    def __init__(self, module: Any, dtype: torch.dtype, channels_last: bool = False):
        import torch

        self.module, self.dtype, self.channels_last = module, dtype, channels_last
        self.inference = torch.inference_mode

    def load(self, inputs: Arrays) -> Any:
        """Copy arrays to tensors: a model that works in place must not reach the caller's memory."""
        import torch

        tensors = [torch.tensor(array) for array in inputs]
        tensors = [tensor.to(self.dtype) if tensor.is_floating_point() else tensor for tensor in tensors]
        if self.channels_last:
            tensors = [t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in tensors]
        return tensors

    def run(self, loaded: Any) -> Any:
        """Do one forward pass."""
        with self.inference():
            return self.module(*loaded)

    def fetch(self, outputs: Any) -> Any:
        """Copy outputs to arrays, floating ones to float32."""
        return to_arrays(outputs)


def to_arrays(outputs: Any) -> Any:
    """Return a module's outputs with its tensors as arrays of their own, floating ones in float32."""
    import torch

    def array(tensor: torch.Tensor) -> Any:
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy(force=True).copy()

    return torch.utils._pytree.tree_map_only(torch.Tensor, array, outputs)


def open_module(artefact: Artefact, dtype: str, threads: int) -> tuple[torch.nn.Module, torch.dtype]:
    """Return the artefact's module without gradients and the dtype of its inputs.

    dtype: what a float32 module is cast to; a module that is stored in 16 bits stays as it is.
    """
    import torch

    from efflab.artefacts.precision import own_dtype

    torch.set_num_threads(threads)
    module = artefact.module().requires_grad_(False)
    own = own_dtype(module)
    wanted: torch.dtype = getattr(torch, dtype) if own == torch.float32 else own
    return (module.to(wanted) if wanted != own else module), wanted
