"""Runs an ONNX graph in ONNX Runtime, on any execution provider of its build."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import Arrays, Backend, Session
from efflab.foundation.errors import Unavailable, nearest
from efflab.model_surgery.graphs.onnx_graph import cast_as

if TYPE_CHECKING:
    from efflab.artefacts.artefact import Artefact

LEVELS = {"none": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}


class Onnxruntime(Backend):
    """ONNX Runtime; `provider` chooses the hardware."""

    takes: ClassVar[Form] = "onnx"

    provider: Annotated[
        str, Field(description="Execution provider of ONNX Runtime, which decides on what hardware the model runs.")
    ] = "CPUExecutionProvider"
    provider_options: dict[str, str] = Field(
        default={}, description="Options that ONNX Runtime passes on to the execution provider, by their names."
    )
    optimisation: Annotated[
        Literal["none", "basic", "extended", "all"],
        Field(description="Level of graph optimisation that ONNX Runtime applies when it loads the model."),
    ] = "all"

    @classmethod
    def available(cls) -> str | None:
        """Say how to install it, if it is missing."""
        missing = importlib.util.find_spec("onnxruntime") is None
        return "onnxruntime is not installed: pip install onnxruntime" if missing else None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Load and optimise the graph; raise Unavailable if this build lacks the provider."""
        import onnxruntime

        built_in = onnxruntime.get_available_providers()
        if self.provider not in built_in:
            hint = nearest(self.provider, built_in)
            raise Unavailable(f"this build of onnxruntime has no provider {self.provider!r}; {hint}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_{LEVELS[self.optimisation]}"
        )
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        providers = [(self.provider, self.provider_options)]
        # ONNX Runtime adds its processor provider by itself: `fallbacks` tells what it took
        runtime = onnxruntime.InferenceSession(str(artefact.onnx), options, providers=providers)
        session = OnnxruntimeSession(runtime, self.provider)
        session(example)
        return session


class OnnxruntimeSession(Session):
    """One graph in one ONNX Runtime session."""

    def __init__(self, runtime: Any, provider: str):
        self.runtime, self.provider = runtime, provider
        self.inputs = [(value.name, value.type) for value in runtime.get_inputs()]
        self.call = runtime.run

    def load(self, inputs: Arrays) -> Any:
        """Name the arrays, in the element types that the graph takes."""
        return {
            name: cast_as(array, kind) if hasattr(array, "dtype") else array
            for (name, kind), array in zip(self.inputs, inputs, strict=True)
        }

    def run(self, loaded: Any) -> Any:
        """Run the graph."""
        return self.call(None, loaded)

    def fetch(self, outputs: Any) -> Any:
        """Return the array, or a tuple of several."""
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def fallbacks(self) -> dict[str, str]:
        """Return the operators that another execution provider took."""
        if self.provider == "CPUExecutionProvider" or not hasattr(self.runtime, "get_provider_graph_assignment_info"):
            return {}
        parts = self.runtime.get_provider_graph_assignment_info()
        return {
            node.op_type: part.ep_name for part in parts if part.ep_name != self.provider for node in part.get_nodes()
        }
