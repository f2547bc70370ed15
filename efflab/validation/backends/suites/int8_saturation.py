"""Forecasts what an int8 graph loses on processors whose dot products of unsigned and signed bytes add pairs in 16 bits.

x86 without VNNI multiplies u8 by s8 with VPMADDUBSW: two neighbouring products are added with saturation at +-32,767, while
one alone may reach 255 x 128 = 32,640. Emulated on any machine, with neighbours along the input channels (N, H, W, C), as
oneDNN and MLAS lay them out; where one channel is left over, its neighbour is of the next kernel position.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from efflab.foundation.errors import RequestError
from efflab.validation.backends.onnx_cases import inputs_of

LEAST, MOST = -32768, 32767
USUAL = {"transA": 0, "alpha": 1.0, "beta": 1.0}  # settings of Gemm
ROWS = 4096  # of a matrix product at once: the pairs of all of them would not fit in memory


class SaturatingLayer(NamedTuple):
    """What saturates in one layer; `lost_db` is signal over the error that it makes on its own exact inputs."""

    name: str
    operator: str
    pairs_saturated: float  # share of all sums of two products
    outputs_changed: float  # share of accumulators
    sqnr_db: float | None  # None where nothing saturates


class SaturationForecast(NamedTuple):
    """The layers of a graph, and its outputs with and without saturation."""

    layers: list[SaturatingLayer]
    exact: np.ndarray
    saturated: np.ndarray


def forecast(path: Path, inputs: tuple[np.ndarray, ...], batch: int | None = 100) -> SaturationForecast:
    """Run a QDQ graph twice in emulation, exactly and with 16-bit pair sums; `batch` None: all inputs in one call.

    Raises RequestError if it has no such layer, or one that is not emulated.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    rewritten, names = _rewritten(model)
    if not names:
        raise RequestError(f"{path.name} has no convolution or matrix product of unsigned by signed bytes")
    given = [one.name for one in inputs_of(model)]
    seen: dict[str, _Tally] = {name: _Tally() for name in names}
    outputs: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for saturating in (False, True):
        operator = _operator(saturating, seen)
        runner = ReferenceEvaluator(rewritten, new_ops=[operator])
        calls = [inputs] if batch is None else [
            tuple(array[start : start + batch] for array in inputs) for start in range(0, len(inputs[0]), batch)
        ]  # fmt: skip
        for arrays in calls:
            fed = dict(zip(given, arrays, strict=True))
            outputs[saturating].append(np.asarray(next(iter(runner.run(None, fed)))))
    layers = [seen[name].layer(name, kind) for name, kind in names.items()]
    return SaturationForecast(layers, np.concatenate(outputs[False]), np.concatenate(outputs[True]))


def paired_product(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, int]:
    """Return x @ w with sums of neighbouring products saturated to 16 bits, and how many sums saturated.

    x: (rows, k) unsigned, w: (k, columns) signed bytes, both as wider integers.
    """
    if x.shape[1] % 2:
        x = np.pad(x, ((0, 0), (0, 1)))
        w = np.pad(w, ((0, 1), (0, 0)))
    found, saturated = np.empty((len(x), w.shape[1]), np.int64), 0
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS].astype(np.int32)
        for column in range(w.shape[1]):
            products = part * w[:, column].astype(np.int32)
            sums = products[:, 0::2] + products[:, 1::2]
            held = np.clip(sums, LEAST, MOST)
            saturated += int(np.count_nonzero(held != sums))
            found[start : start + ROWS, column] = held.sum(axis=1, dtype=np.int64)
    return found, saturated


class _Tally:
    """Sums over the batches of one layer."""

    def __init__(self) -> None:
        self.pairs = self.saturated = self.outputs = self.changed = 0
        self.signal = self.noise = 0.0

    def add(self, exact: np.ndarray, held: np.ndarray, pairs: int, saturated: int) -> None:
        """Count one batch."""
        self.pairs, self.saturated = self.pairs + pairs, self.saturated + saturated
        self.outputs, self.changed = self.outputs + exact.size, self.changed + int(np.count_nonzero(exact != held))
        self.signal += float(np.square(exact.astype(float)).sum())
        self.noise += float(np.square((exact - held).astype(float)).sum())

    def layer(self, name: str, operator: str) -> SaturatingLayer:
        """Return the counts as shares."""
        sqnr = 10 * np.log10(self.signal / self.noise) if self.noise and self.signal else None
        return SaturatingLayer(name, operator, self.saturated / max(1, self.pairs), self.changed / max(1, self.outputs),
                     None if sqnr is None else float(sqnr))  # fmt: skip


def _rewritten(model: Any) -> tuple[Any, dict[str, str]]:
    """Return a model whose products of dequantised u8 by s8 tensors are nodes of our own, and their names with operators."""
    import onnx
    from onnx import helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    makers = {output: node for node in copy.graph.node for output in node.output}
    types = {one.name: one.data_type for one in copy.graph.initializer}
    names: dict[str, str] = {}
    for node in copy.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        left, right = (makers.get(name) for name in node.input[:2])
        if not (left and right and left.op_type == right.op_type == "DequantizeLinear"):
            continue
        if _type(left, types) != onnx.TensorProto.UINT8 or _type(right, types) != onnx.TensorProto.INT8:
            continue
        name = node.name or node.output[0]
        names[name] = node.op_type
        settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        _refuse(name, settings, len(settings.get("kernel_shape", [1, 1])))
        new = helper.make_node(
            "PairedProduct", [*left.input, *right.input, *node.input[2:3]], list(node.output), name=name, domain="efflab",
            layer=name, kind=node.op_type, strides=list(settings.get("strides", [1, 1])), pads=list(settings.get("pads", [0] * 4)),
            group=int(settings.get("group", 1)), transposed=int(settings.get("transB", 0)),
        )  # fmt: skip
        node.CopyFrom(new)
    copy.opset_import.append(helper.make_opsetid("efflab", 1))
    return copy, names


def _refuse(name: str, settings: dict[str, Any], axes: int) -> None:
    """Raise RequestError for a layer that the emulation would compute otherwise than its graph says."""
    strange = [
        what
        for what, there in (
            ("dilations", any(step != 1 for step in settings.get("dilations", []))),
            ("auto_pad", settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"")),
            (f"{axes} axes", axes != 2),
            ("transA, alpha or beta", any(settings.get(key, usual) != usual for key, usual in USUAL.items())),
        )
        if there
    ]
    if strange:
        raise RequestError(f"layer {name} has {' and '.join(strange)}, which the emulation does not know")


def _type(node: Any, types: dict[str, int]) -> int | None:
    return types.get(node.input[2]) if len(node.input) > 2 else None


def _operator(saturating: bool, seen: dict[str, _Tally]) -> Any:
    from onnx.reference.op_run import OpRun

    class PairedProduct(OpRun):
        op_domain = "efflab"

        def _run(
            self, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any, bias: Any = None, layer: str = "",
            kind: str = "", strides: Any = None, pads: Any = None, group: int = 1, transposed: int = 0,
        ) -> tuple[np.ndarray]:  # fmt: skip
            if kind == "Conv":
                exact, held = _convolve(x, w, int(x_zero), strides, pads, group, seen[layer], saturating)
                scale = np.asarray(x_scale) * np.asarray(w_scale).reshape(-1)
                result = (held if saturating else exact) * scale.reshape(1, -1, 1, 1)
                return ((result + (0 if bias is None else bias.reshape(1, -1, 1, 1))).astype(np.float32),)
            matrix = w.T if transposed else w
            flat = x.reshape(-1, x.shape[-1])
            exact, held = _multiply(flat, matrix, int(x_zero), seen[layer], saturating)
            result = (held if saturating else exact) * (np.asarray(x_scale) * np.asarray(w_scale).reshape(-1))
            result = result.reshape(*x.shape[:-1], -1) + (0 if bias is None else bias)
            return (result.astype(np.float32),)

    return PairedProduct


def _multiply(
    x: np.ndarray, w: np.ndarray, zero: int, tally: _Tally, saturating: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact product of (x - zero) and w, and the one with saturated pair sums of x and w."""
    exact = x.astype(np.float64) @ w.astype(np.float64)
    offset = zero * w.astype(np.int64).sum(axis=0)
    if not saturating:
        return exact - offset, exact
    held, saturated = paired_product(x, w)
    tally.add(exact - offset, held - offset, len(x) * ((x.shape[1] + 1) // 2) * w.shape[1], saturated)
    return exact - offset, held - offset


def _convolve(
    x: np.ndarray, w: np.ndarray, zero: int, strides: Any, pads: Any, group: int, tally: _Tally, saturating: bool
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Convolve by matrix products of patches in the order kernel row, kernel column, channel; padding is the zero point."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero)
    _, wide, high, across = w.shape
    windows = np.lib.stride_tricks.sliding_window_view(padded, (high, across), axis=(2, 3))[
        :, :, :: strides[0], :: strides[1]
    ]
    n, _, rows, columns = windows.shape[:4]
    parts = []
    each = w.shape[0] // group
    for index in range(group):
        patches = (
            windows[:, index * wide : (index + 1) * wide].transpose(0, 2, 3, 4, 5, 1).reshape(n * rows * columns, -1)
        )
        kernel = w[index * each : (index + 1) * each].transpose(2, 3, 1, 0).reshape(-1, each)
        parts.append(_multiply(patches, kernel, zero, tally, saturating))
    exact, held = (
        np.concatenate([part[side] for part in parts], axis=1).reshape(n, rows, columns, -1).transpose(0, 3, 1, 2)
        for side in (0, 1)
    )
    return exact, held
