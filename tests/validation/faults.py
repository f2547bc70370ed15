"""Broken backends, each with one fault; written as plug-in files, since that is how a backend comes to efflab."""

from pathlib import Path

SOUND = '''
import time
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime

from efflab import Backend, Session


class {name}(Backend):
    """ONNX Runtime with a fault: {fault}."""

    takes: ClassVar[str] = "onnx"
    device: ClassVar[str] = "{device}"

    @classmethod
    def available(cls):
        return None

    def prepare(self, artefact, example, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        model = onnx.load(artefact.onnx)
        model = self.change(model)
        runtime = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session = FaultySession(runtime)
        session(example)
        return session

    def change(self, model):
        return model


class FaultySession(Session):
    def __init__(self, runtime):
        self.runtime, self.names = runtime, [one.name for one in runtime.get_inputs()]

    def load(self, inputs):
        return dict(zip(self.names, inputs, strict=True))

    def run(self, loaded):
        return self.runtime.run(None, loaded)

    def fetch(self, outputs):
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

'''

FAULTS = {
    "sound": "",
    "wrong_rounding": '''
    def run(self, loaded):
        found = self.runtime.run(None, loaded)
        return [np.floor(one * 64) / 64 if one.dtype == np.float32 else one for one in found]
''',
    "transposed_weights": "",
    "stale_output": '''
    last = None

    def run(self, loaded):
        found = self.runtime.run(None, loaded)
        shown, self.last = self.last if self.last and self.last[0].shape == found[0].shape else found, found
        return shown
''',
    "own_buffer": '''
    buffer = None

    def fetch(self, outputs):
        if self.buffer is None or self.buffer.shape != outputs[0].shape:
            self.buffer = np.empty_like(outputs[0])
        self.buffer[...] = outputs[0]
        return self.buffer
''',
    "not_deterministic": '''
    def run(self, loaded):
        found = self.runtime.run(None, loaded)
        return [one + np.float32(1e-6) * np.random.rand(*one.shape).astype(one.dtype) for one in found]
''',
    "ignores_wait": '''
    def run(self, loaded):
        return loaded

    def fetch(self, outputs):
        time.sleep(0.02)
        return self.runtime.run(None, outputs)[0]
''',
    "leaks": '''
    kept = []

    def load(self, inputs):
        self.kept.append(np.ones(100_000))
        return dict(zip(self.names, inputs, strict=True))
''',
    "crashes_on_odd_batch": '''
    def run(self, loaded):
        size = len(next(iter(loaded.values())))
        if size > 1 and size % 2:
            import os, signal
            os.kill(os.getpid(), signal.SIGSEGV)
        return self.runtime.run(None, loaded)
''',
    "hangs_on_empty_batch": '''
    def run(self, loaded):
        while not len(next(iter(loaded.values()))):
            time.sleep(1)
        return self.runtime.run(None, loaded)
''',
    "falls_back": "",
    "falls_back_openly": '''
    def fallbacks(self):
        return {"Conv": "the processor"}
''',
    "mutates_input": '''
    def run(self, loaded):
        found = self.runtime.run(None, loaded)
        for value in loaded.values():
            value *= 2
        return found
''',
    "many_threads": "",
    "swallows_nan": '''
    def run(self, loaded):
        return [np.nan_to_num(one) for one in self.runtime.run(None, loaded)]
''',
    "mixes_rows": '''
    def run(self, loaded):
        return [one + np.float32(0.01) * one.mean(axis=0, keepdims=True) if one.ndim == 2 else one
                for one in self.runtime.run(None, loaded)]
''',
}  # fmt: skip

# one convolution or matrix product of the graph reads its weights in another order
TRANSPOSED = """
    def change(self, model):
        from onnx import numpy_helper

        weights = {one.name: one for one in model.graph.initializer}
        seen = 0
        for node in model.graph.node:
            if node.op_type == "Conv" and node.input[1] in weights:
                value = numpy_helper.to_array(weights[node.input[1]])
                seen += 1
                if value.shape[-1] == 3 and seen >= 2:
                    weights[node.input[1]].CopyFrom(numpy_helper.from_array(value.swapaxes(2, 3).copy(), node.input[1]))
                    break
        return model
"""


def write_backend(root: Path, fault: str) -> str:
    """Write the backend with a fault as a plug-in of folder `root`, and return its name."""
    folder = root / "backends"
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(part.capitalize() for part in fault.split("_"))
    text = SOUND.format(name=name, fault=fault, device="mychip" if fault.startswith("falls_back") else "cpu")
    if fault == "transposed_weights":
        text = text.replace("\n    def change(self, model):\n        return model\n", TRANSPOSED)
    if fault == "many_threads":
        text = text.replace(
            "options.intra_op_num_threads, options", "options.intra_op_num_threads, threads, options"
        ).replace("= threads, 4", "= 2, threads, 4")
    (folder / f"{fault}.py").write_text(text + FAULTS[fault])
    return fault
