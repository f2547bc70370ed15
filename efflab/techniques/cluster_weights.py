"""Makes the weights of a layer share few values, and stores which ones by an entropy code (Han et al. 2016, 1510.00149)."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

MOST_VALUES = 256  # a code is one byte before it is compressed
CODES, VALUES, SHAPE = ".codes", ".values", ".shape"  # what stands on disk for a weight


class ClusterWeights(Technique):
    """Replace each layer's weights by 2^bits shared values, found by k-means (Han et al. 2016, "Deep Compression").

    On disk a weight is its values and a Huffman-coded string of which one goes where; in memory and in an ONNX export it
    is dense again. It saves bytes to store and to send, and no time. Zeros stay zero, so it composes with
    `prune_weights`: large layers keep about a seventh of their bytes at 4 bits, a tenth after pruning (section 5).
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("artefact_bytes",)
    before: ClassVar[tuple[str, ...]] = ("cast", "cluster_weights")
    rather_after: ClassVar[dict[str, str]] = {
        "prune_weights": "zeros get a value of their own, which costs least to code (Han et al. 2016)",
        "finetune": "training afterwards takes shared values apart",
        "distill": "training afterwards takes shared values apart",
        "prune_channels": "channels are ranked by weights that are not shared yet",
    }
    tiny: ClassVar[dict[str, Any]] = {"bits": 4}

    bits: Annotated[
        int,
        Field(
            ge=1,
            le=8,
            description="Bits for each weight: a layer keeps at most 2^bits different values, zero among them if it "
            "has zeros.",
        ),
    ] = 4
    start: Annotated[
        Literal["linear", "density"],
        Field(
            description="Where k-means starts: at values spread evenly over the range of the weights (`linear`), or "
            "at their quantiles (`density`)."
        ),
    ] = "linear"
    least: Annotated[int, Field(ge=1, description="Layers with fewer weights than this stay unchanged.")] = 512

    def apply(self, model: Any, context: Context) -> Result:
        """Cluster; raise RequestError if no layer is large enough."""
        cluster_weights(model, self.bits, self.start, self.least)
        return Result(model, {})

    @classmethod
    def pack(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Store matrices and kernels of few values as those and an entropy-coded string."""
        packed: dict[str, Tensor] = {}
        for name, tensor in state.items():
            packed |= _packed(name, tensor) or {name: tensor}
        return packed

    @classmethod
    def unpack(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Decode what `pack` stored."""
        import torch

        names = [name.removesuffix(CODES) for name in state if name.endswith(CODES)]
        whole = {name: tensor for name, tensor in state.items() if not name.endswith((CODES, VALUES, SHAPE))}
        for name in names:
            codes = bytearray(zlib.decompress(bytes(state[name + CODES].numpy()), wbits=-15))
            index = torch.frombuffer(codes, dtype=torch.uint8).long()
            whole[name] = state[name + VALUES][index].reshape(state[name + SHAPE].tolist())
        return whole


def cluster_weights(
    module: nn.Module, bits: int = 4, start: Literal["linear", "density"] = "linear", least: int = 512
) -> dict[str, int]:
    """Cluster weights of convolutions and linear layers in place; return how many values each clustered layer has.

    Raises RequestError if no layer has `least` weights and more values than 2^bits.
    """
    import torch
    from torch import nn

    done: dict[str, int] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.weight.numel() >= least:
            flat = layer.weight.detach().float().flatten().numpy()
            if len(set(flat.tolist())) > 2**bits:
                values, index = _clusters(flat, 2**bits, start)
                with torch.no_grad():
                    layer.weight.copy_(torch.from_numpy(values[index]).reshape(layer.weight.shape))
                done[name] = len(values)
    if not done:
        raise RequestError(f"cluster_weights: no layer has {least} weights and more than {2**bits} values")
    return done


def _clusters(flat: np.ndarray, count: int, start: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values and which one each weight takes; zeros keep a value of their own."""
    import numpy as np

    zero = flat == 0
    others = flat[~zero].astype(np.float64)
    few = count - 1 if zero.any() else count
    if start == "linear":
        centres = np.linspace(others.min(), others.max(), few)
    else:
        centres = np.quantile(others, (np.arange(few) + 0.5) / few)
    centres = _lloyd(np.sort(others), np.unique(centres))
    values = np.concatenate([[0.0], centres]) if zero.any() else centres
    index = np.zeros(flat.size, dtype=np.int64)
    index[~zero] = _nearest(others, centres) + (1 if zero.any() else 0)
    return values.astype(np.float32), index


def _nearest(numbers: np.ndarray, centres: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.searchsorted((centres[1:] + centres[:-1]) / 2, numbers)


def _lloyd(ordered: np.ndarray, centres: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Move sorted centres to the means of the sorted numbers nearest to them until nothing changes; empty ones go."""
    import numpy as np

    sums = np.concatenate([[0.0], ordered.cumsum()])
    for _ in range(rounds):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [ordered.size]])
        counts = np.diff(bounds)
        moved = (sums[bounds[1:]] - sums[bounds[:-1]])[counts > 0] / counts[counts > 0]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _packed(name: str, tensor: Tensor) -> dict[str, Tensor] | None:
    """Return what is stored for a weight of few values, or None where that saves nothing."""
    import torch

    if tensor.ndim < 2 or not tensor.is_floating_point():
        return None
    values, index = torch.unique(tensor, return_inverse=True)
    if len(values) > MOST_VALUES:
        return None
    raw = bytes(index.to(torch.uint8).contiguous().flatten().numpy())
    codes = min((_deflated(raw, strategy) for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY)), key=len)
    if len(codes) + values.numel() * values.element_size() >= tensor.numel() * tensor.element_size():
        return None
    shape = torch.tensor(tensor.shape, dtype=torch.int64)
    return {
        name + CODES: torch.frombuffer(bytearray(codes), dtype=torch.uint8),
        name + VALUES: values,
        name + SHAPE: shape,
    }


def _deflated(raw: bytes, strategy: int) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return coder.compress(raw) + coder.flush()
