"""Runs an ONNX graph in OpenVINO, compiled for one static batch size."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.foundation.errors import Unavailable, nearest

if TYPE_CHECKING:
    from efflab.artefacts.artefact import Artefact

CAPABILITIES = {"f32": "FP32", "f16": "FP16", "bf16": "BF16"}


class Openvino(Backend):
    """OpenVINO, tuned for latency: one stream."""

    takes: ClassVar[Form] = "onnx"
    extra: ClassVar[str | None] = "openvino"

    precision: Annotated[
        Literal["f32", "f16", "bf16"],
        Field(description="Floating-point type in which operators that are not int8 compute."),
    ] = "f32"
    target: Annotated[str, Field(description="OpenVINO's name of the device that runs the model, such as CPU.")] = "CPU"

    @classmethod
    def available(cls) -> str | None:
        """Say how to install it, if it is missing."""
        missing = importlib.util.find_spec("openvino") is None
        return 'openvino is not installed: pip install "efflab[openvino]"' if missing else None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Compile for the example's shapes; raise Unavailable if the device is absent or lacks the precision."""
        import openvino

        core = openvino.Core()
        if self.target not in core.available_devices:
            hint = nearest(self.target, core.available_devices)
            raise Unavailable(f"OpenVINO finds no device {self.target!r} here; {hint}")
        listed = core.get_property(self.target, "OPTIMIZATION_CAPABILITIES")
        if CAPABILITIES[self.precision] not in listed:
            raise Unavailable(
                f"OpenVINO's {self.target} has no {self.precision} arithmetic here (it has {', '.join(listed)})"
            )
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if self.target == "CPU":
            config["INFERENCE_NUM_THREADS"] = threads
        session = OpenvinoSession(core, artefact.onnx, self.target, config)
        session(example)
        return session


class OpenvinoSession(Session):
    """One graph, compiled anew for every set of input shapes that it meets."""

    def __init__(self, core: Any, path: Path, target: str, config: dict[str, Any]):
        self.core, self.path, self.target, self.config = core, path, target, config
        self.requests: dict[tuple[tuple[int, ...], ...], tuple[Any, list[int]]] = {}

    def load(self, inputs: Arrays) -> Any:
        """Return a request for these shapes with the arrays as its input tensors."""
        import numpy as np
        import openvino

        if not all(isinstance(array, np.ndarray) for array in inputs):
            raise Unavailable("this backend takes arrays, not sequences or optional values")
        shapes = tuple(array.shape for array in inputs)
        if shapes not in self.requests:
            model = self.core.read_model(str(self.path))
            used = _used(model.inputs, self.path, len(inputs))
            # fixed shapes let OpenVINO choose its kernels and memory once
            model.reshape({port: list(shapes[index]) for port, index in zip(model.inputs, used, strict=True)})
            compiled = self.core.compile_model(model, self.target, self.config)
            self.requests[shapes] = compiled.create_infer_request(), used
        request, used = self.requests[shapes]
        kinds = [port.get_element_type() for port in request.model_inputs]
        arrays = [_of_type(np.asarray(inputs[index], order="C"), kind) for index, kind in zip(used, kinds, strict=True)]
        return request, [openvino.Tensor(array, shared_memory=True) for array in arrays]

    def run(self, loaded: Any) -> Any:
        """Run the request."""
        request, tensors = loaded
        for index, tensor in enumerate(tensors):
            request.set_input_tensor(index, tensor)
        request.infer(share_outputs=True)
        return request

    def fetch(self, outputs: Any) -> Any:
        """Copy the outputs, whose memory the next run overwrites."""
        import numpy as np

        arrays = tuple(np.array(tensor.data) for tensor in outputs.output_tensors)
        return arrays[0] if len(arrays) == 1 else arrays


def _of_type(array: Any, kind: Any) -> Any:
    """Return an array in OpenVINO's element type `kind`, if that holds the same kind of numbers."""
    name = kind.get_type_name()  # f16, i64, boolean, ...
    floating = array.dtype.kind == "f" and name in ("f16", "f32", "f64")
    whole = array.dtype.kind in "iu" and name[1:].isdigit() and name[0] in "iu" and int(name[1:]) >= 8
    return array.astype(f"{name[0]}{int(name[1:]) // 8}", copy=False) if floating or whole else array


def _used(ports: Any, path: Path, count: int) -> list[int]:
    """Return which of the graph's inputs each port takes: OpenVINO drops those that shape nothing but constants."""
    if len(ports) == count:
        return list(range(count))
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {one.name for one in graph.initializer}
    names = [one.name for one in graph.input if one.name not in weights]
    return [next(index for index, name in enumerate(names) if name in port.get_names()) for port in ports]
