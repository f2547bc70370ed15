"""Hands on ONNX graphs: run one on the processor, read a node's attributes, find the axis of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_graph(model: Path | bytes, threads: int = 1) -> Any:
    """Open an ONNX file, or a serialised model, in ONNX Runtime on so many processor threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def output_axis(node: Any) -> int:
    """Return the axis of the weight of a Conv, Gemm or MatMul that counts its outputs; the other one counts its inputs."""
    return 0 if node.op_type == "Conv" or attributes(node).get("transB", 0) else 1
