"""The MAC ledger: counts the multiply-accumulates of a model as it runs, and says what it could not count."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from efflab.profiling.ledger import Ledger
from efflab.profiling.work_of_artefact import count_onnx
from efflab.records.record import Work

__all__ = ["Ledger", "count_module", "count_onnx", "is_compute", "run_counted"]


def count_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> Work:
    """Count one forward pass of `module` on `inputs`, which hold one example (batch 1).

    Counted at the dispatcher, so functional calls and attention are in it, in evaluation mode, without gradients.
    Products over zero padding and masked attention count as the dense products they are computed as.
    `artefact_bytes` is the size of parameters and buffers; an artefact on disk knows better.
    """
    return run_counted(module, inputs)[0]


def run_counted(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Work, Any]:
    """Count one forward pass as `count_module` does; return the outputs, too. The inputs keep their values."""
    state = [*module.parameters(), *module.buffers()]
    counter = _Counter(state)
    copies = [tensor.clone() for tensor in inputs]  # a first operator in place would write on them
    with _evaluating(module), torch.no_grad(), counter:
        outputs = module(*copies)
    params = list(module.parameters())
    work = counter.ledger.work(
        params=sum(tensor.numel() for tensor in params),
        nonzero_params=sum(_nonzero(tensor) for tensor in params),
        artefact_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state),
    )
    return work, outputs


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put every submodule in evaluation mode, and attention on the path whose parts have formulas."""
    training = {part: part.training for part in module.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for part, mode in training.items():
            part.training = mode


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Applies a formula to every operator and follows which tensors come from the model's state alone."""

    def __init__(self, state: list[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = Ledger()
        # the tensors are kept, so that no activation can be given the memory (and so the name) of a weight
        self.constants = {_name(tensor): tensor for tensor in state}
        self.shares: dict[tuple[Any, ...], float] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operator = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else str(func)
        space = getattr(func, "namespace", "")
        formula = FORMULAS.get(operator) if space == "aten" else None
        if formula is None and space == "aten":
            with self:  # composite operators arrive whole in inference mode
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        outputs = func(*args, **kwargs)
        if formula is not None:
            self.ledger.counted += 1
            for macs, left, right in formula(args, kwargs, outputs):
                share = self._share(left) * self._share(right)
                self.ledger.add(macs, share, _bits(left) * _bits(right))
        elif is_compute(space, operator):
            self.ledger.uncounted[f"{space}::{operator}"] += 1
        self._follow((args, kwargs), outputs)
        return outputs

    def _follow(self, inputs: Any, outputs: Any) -> None:
        tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        constant = bool(tensors) and all(_name(tensor) in self.constants for tensor in tensors)
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, Tensor):
                if constant:
                    self.constants[_name(leaf)] = leaf
                else:
                    self.constants.pop(_name(leaf), None)

    def _share(self, operand: Tensor | int) -> float:
        """Return the share of non-zeros in an operand that is a weight; 1 for activations."""
        if isinstance(operand, int) or _name(operand) not in self.constants or not operand.numel():
            return 1.0
        key = (_name(operand), operand.storage_offset(), *operand.shape, *operand.stride())
        if key not in self.shares:
            with _disable_current_modes():
                self.shares[key] = _nonzero(operand) / operand.numel()
        return self.shares[key]


def _name(tensor: Tensor) -> Any:
    try:
        pointer = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # tensors without plain memory (sparse, packed)
        pointer = 0
    return pointer or ("empty", id(tensor))


def _nonzero(tensor: Tensor) -> int:
    return int(torch.count_nonzero(tensor.detach()))


def _bits(operand: Tensor | int) -> int:
    """Return the bits of an element; packed operands give theirs as a number."""
    return operand if isinstance(operand, int) else operand.element_size() * 8


# whole words of an operator's name (words end at _); names of in-place forms end in _
COMPUTE = re.compile(
    r"(?<![a-z0-9])(?:[a-z0-9]*(?:mm|mv|dot|matmul|linear|attention)|[a-z]*conv(?:\d?d|olution)?|lstm|gru|rnn|moe|transformer"
    r"|fft|i?stft|einsum|inner|outer|addr|ger|kron|cov|corrcoef|embedding_bag|euclidean_dist|[cp]dist|affine_grid"
    r"|linalg|cholesky|svd|(?:sp)?solve|lstsq|lu|qr|orgqr|ormqr|geqrf|p?inverse|eigh?|(?:log|slog)?det|matrix_(?:exp|power)"
    r"|mx_fp\d_bf16)(?![a-z0-9])"
)
# cheap or no arithmetic, although a word of the above is in the name
NO_COMPUTE = re.compile(
    r"_(?:pre|un)?pack(?![a-z0-9])|_unpack_sizes|quantize_weight|reorder_|flatten_weight|r?fftfreq|i?fftshift|slice_inverse"
    r"|linalg_(?:vector_norm|norm|cross|diagonal|check_errors|_powsum|vander)|thnn\w*_(?:lstm|gru)_cell"
)
# libraries whose operators are judged by their names; those of all others are taken to compute
PLAIN_SPACES = {"aten", "prim", "prims", "debugprims", "rngprims", "profiler", "inductor", "torchvision", "torchao"}
PLAIN_SPACES |= {"quantized", "_quantized", "quantized_decomposed", "c10d", "c10d_functional", "_c10d_functional"}


def is_compute(space: str, operator: str) -> bool:
    """Say whether an operator multiplies matrices or the like; one from an unknown library is taken to."""
    return space not in PLAIN_SPACES or bool(COMPUTE.search(operator) and not NO_COMPUTE.search(operator))


Products = list[tuple[int, Tensor | int, Tensor | int]]  # (MACs, one operand or its bits, the other)
Formula = Callable[[tuple[Any, ...], dict[str, Any], Any], Products]


def _convolution(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    return [(out.numel() * math.prod(args[1].shape[1:]), args[0], args[1])]  # each output takes so many


def _transposed_convolution(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    return [(args[0].numel() * math.prod(args[1].shape[1:]), args[0], args[1])]  # each input makes so many


def _any_convolution(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    transposed = len(args) > 6 and args[6] is True
    return (_transposed_convolution if transposed else _convolution)(args, kwargs, out)


def _product(left: int, right: int) -> Formula:
    """Return the formula of left @ right, given their places among the arguments: outputs x inner length."""

    def formula(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
        return [(out.numel() * args[left].shape[-1], args[left], args[right])]

    return formula


def _batch_sum(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    return [(args[1].numel() * args[2].shape[-1], args[1], args[2])]


def _outer(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    return [(out.numel(), args[1], args[2])]


def _grid(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    return [(out.numel() * args[0].shape[-1], args[0], out)]


def _bag(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    """Return the products with the weights of an embedding bag's entries; without those it only adds."""
    factors = args[6] if len(args) > 6 else None
    return [] if factors is None else [(args[1].numel() * args[0].shape[-1], factors, args[0])]


def _packed(bits: int) -> Formula:
    def formula(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
        return [(out.numel() * args[0].shape[-1], args[0], bits)]

    return formula


def _attention(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    query, key, value = args[:3]  # (..., heads, length, size)
    scores = query.numel() // query.shape[-1] * key.shape[-2]
    return [(scores * query.shape[-1], query, key), (scores * value.shape[-1], query, value)]


def _attention_lengths_first(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    query, key, value = (tensor.transpose(1, 2) for tensor in args[:3])  # (batch, length, heads, size)
    return _attention((query, key, value), kwargs, out)


def _mkldnn_rnn(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Products:
    x, weight_in, weight_hidden = args[:3]  # x: (time, batch, size)
    steps = x.shape[0] * x.shape[1]
    return [(steps * weight_in.numel(), x, weight_in), (steps * weight_hidden.numel(), x, weight_hidden)]


FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), _any_convolution),
    "cudnn_convolution_transpose": _transposed_convolution,
    **dict.fromkeys(("mkldnn_convolution", "cudnn_convolution", "_slow_conv2d_forward", "slow_conv3d"), _convolution),
    **dict.fromkeys(("conv_depthwise3d", "_conv_depthwise2d"), _convolution),
    **dict.fromkeys(("mm", "bmm", "_int_mm", "_scaled_mm", "mv", "dot", "vdot"), _product(0, 1)),
    **dict.fromkeys(("addmm", "addmm_", "baddbmm", "baddbmm_", "addmv", "addmv_", "_addmm_activation"), _product(1, 2)),
    **dict.fromkeys(("linear", "mkldnn_linear"), _product(0, 1)),
    **dict.fromkeys(("addbmm", "addbmm_"), _batch_sum),
    **dict.fromkeys(("addr", "addr_"), _outer),
    "affine_grid_generator": _grid,
    **dict.fromkeys(("_embedding_bag", "_embedding_bag_forward_only"), _bag),
    "_weight_int8pack_mm": _packed(8),
    **dict.fromkeys(("_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu"), _packed(4)),
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_fused_attention_overrideable",
        ),
        _attention,
    ),
    **dict.fromkeys(("_flash_attention_forward", "_efficient_attention_forward"), _attention_lengths_first),
    "mkldnn_rnn_layer": _mkldnn_rnn,
}
