"""Runs an ONNX graph in a program of the user's own: a vendor's C++ runner, or a script that talks to a remote board.

The program reads one JSON object a line on standard input and answers each with one line on standard output; tensors go by
.npy files. It ends when its standard input ends. Any answer may be {"error": "in words", "unsupported": true or false}.
Standard output is for answers only; what a runtime logs belongs on standard error.

    {"do": "load", "model": "/path/model.onnx", "threads": 2, "shapes": [[8, 1, 24, 24]]}   -> {}
    {"do": "inputs", "files": ["/path/in0.npy"], "types": ["float32"]}    put them on the device   -> {}
    {"do": "run"}    one forward pass, from start to finished outputs, timed by the program  -> {"ns": 123456}
    {"do": "outputs", "folder": "/path"}    write the outputs there    -> {"files": ["/path/out0.npy"], "types": ["float32"]}
    {"do": "fallbacks"}    operators that ran elsewhere                                      -> {"Resize": "processor"}

Types that numpy does not have travel as their bits: bfloat16 as uint16, float8_e4m3fn, int4 and their like one to a uint8; the
answer's "types" may be left out where the files hold the types themselves. Strings do not travel.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.backend import Arrays, Backend, Session
from efflab.errors import Died, Unavailable
from efflab.technique import Form

if TYPE_CHECKING:
    import numpy as np

    from efflab.artefact import Artefact


class Command(Backend):
    """A program of the user's own behind a pipe; it times each pass itself, so that the pipe costs nothing."""

    takes: ClassVar[Form] = "onnx"
    device: ClassVar[str] = "command"

    command: Annotated[list[str], Field(min_length=1)]  # the program and its arguments

    @classmethod
    def available(cls) -> str | None:
        """Nothing is needed but the program, which `prepare` looks for."""
        return None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Start the program and load the graph; raise Unavailable if there is no such program."""
        if shutil.which(self.command[0]) is None:
            raise Unavailable(f"there is no program {self.command[0]!r}")
        session = CommandSession(self.command, artefact.onnx.resolve(), threads, example)
        session(example)
        return session


class CommandSession(Session):
    """One running program with one graph; its clock is the time that the program tells."""

    def __init__(self, command: list[str], model: Path, threads: int, example: Arrays):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.folder = tempfile.TemporaryDirectory(prefix="efflab-command-")
        self.now_ns = 0
        self.clock = lambda: self.now_ns
        shapes = [list(array.shape) for array in example]
        self.ask({"do": "load", "model": str(model), "threads": threads, "shapes": shapes})

    def __del__(self) -> None:
        """End the program, which has nobody to answer any more."""
        process = getattr(self, "process", None)
        if process:
            process.kill()
            process.wait()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the program's answer; raise Died if it died, Unavailable or RuntimeError if it says that it cannot."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise Died(f"the program {_end(self.process.wait())} at {request['do']!r}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise RuntimeError(f"the program answered {request['do']!r} with no JSON object: {line[:80]!r}")
        if "error" in answer:
            raise Unavailable(answer["error"]) if answer.get("unsupported") else RuntimeError(answer["error"])
        return answer

    def load(self, inputs: Arrays) -> Any:
        """Write the arrays to files and have the program put them on its device."""
        import numpy as np

        if not all(isinstance(array, (np.ndarray, np.generic)) for array in inputs):
            raise NotImplementedError("sequences and optionals do not travel as .npy files")
        files = [str(Path(self.folder.name) / f"in{index}.npy") for index in range(len(inputs))]
        for file, array in zip(files, inputs, strict=True):
            np.save(file, _bits(np.asarray(array, order="C")))
        return {"files": files, "types": [str(array.dtype) for array in inputs]}

    def run(self, loaded: Any) -> Any:
        """Have the program run once, and move the clock by the time that it took."""
        if loaded is not getattr(self, "loaded", None):
            self.ask({"do": "inputs", **loaded})
            self.loaded = loaded
        took = self.ask({"do": "run"}).get("ns")
        if type(took) is not int or took < 0:
            raise RuntimeError(f"the program answered 'run' without its nanoseconds as a whole number ({took!r})")
        self.now_ns += took
        return self

    def fetch(self, outputs: Any) -> Any:
        """Have the program write its outputs, and read them."""
        import numpy as np

        answer = self.ask({"do": "outputs", "folder": self.folder.name})
        files, types = answer.get("files", []), answer.get("types")
        try:
            arrays = tuple(np.load(file, allow_pickle=False) for file in files)
        except (OSError, ValueError, TypeError) as error:
            raise RuntimeError(
                f"the program's outputs are not .npy files of numbers ({type(error).__name__})"
            ) from error
        if types is not None:
            arrays = tuple(_of_type(array, str(name)) for array, name in zip(arrays, types, strict=True))
        return arrays[0] if len(arrays) == 1 else arrays

    def fallbacks(self) -> dict[str, str]:
        """Return what the program tells; a program that does not know the question has none."""
        try:
            return {str(key): str(value) for key, value in self.ask({"do": "fallbacks"}).items()}
        except (RuntimeError, Unavailable):
            return {}


def _end(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _bits(array: np.ndarray) -> np.ndarray:
    """Return an array as numpy can write it: types of ml_dtypes as unsigned integers of their width."""
    if array.dtype.kind in "OUS":
        raise NotImplementedError("strings do not travel as .npy files")
    if array.dtype.kind in "biufc" and array.dtype.isbuiltin == 1:
        return array
    return array.view(f"u{array.dtype.itemsize}")


def _of_type(array: np.ndarray, name: str) -> np.ndarray:
    """Return the array that `_bits` made of one of type `name`; raise RuntimeError for a type that nobody has."""
    import ml_dtypes
    import numpy as np

    if str(array.dtype) == name:
        return array
    try:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
    except TypeError as error:
        raise RuntimeError(f"the program answered with an unknown type {name!r}") from error
    if dtype.itemsize != array.dtype.itemsize:
        raise RuntimeError(f"the program says {name}, and its file holds {array.dtype}")
    return array.view(dtype)
