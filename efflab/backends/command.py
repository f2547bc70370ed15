"""Runs an ONNX graph in a program of the user's own: a vendor's C++ runner, or a script that talks to a remote board.

The program reads one JSON object a line on standard input and answers each with one line on standard output; tensors go by
.npy files. It ends when its standard input ends. Any answer may be {"error": "in words", "unsupported": true or false}.

    {"do": "load", "model": "/path/model.onnx", "threads": 2, "shapes": [[8, 1, 24, 24]]}   -> {}
    {"do": "inputs", "files": ["/path/in0.npy"]}    put these on the device                 -> {}
    {"do": "run"}    one forward pass, from start to finished outputs, timed by the program  -> {"ns": 123456}
    {"do": "outputs", "folder": "/path"}    write the outputs there                          -> {"files": ["/path/out0.npy"]}
    {"do": "fallbacks"}    operators that ran elsewhere                                      -> {"Resize": "processor"}
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.backend import Arrays, Backend, Session
from efflab.errors import Died, Unavailable
from efflab.technique import Form

if TYPE_CHECKING:
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
            raise Died(f"the program ended with exit code {self.process.wait()} at {request['do']!r}")
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

        files = [str(Path(self.folder.name) / f"in{index}.npy") for index in range(len(inputs))]
        for file, array in zip(files, inputs, strict=True):
            np.save(file, np.ascontiguousarray(array))
        return files

    def run(self, loaded: Any) -> Any:
        """Have the program run once, and move the clock by the time that it took."""
        if loaded is not getattr(self, "loaded", None):
            self.ask({"do": "inputs", "files": loaded})
            self.loaded = loaded
        took = self.ask({"do": "run"}).get("ns")
        if type(took) is not int or took < 0:
            raise RuntimeError(f"the program answered 'run' without its nanoseconds as a whole number ({took!r})")
        self.now_ns += took
        return self

    def fetch(self, outputs: Any) -> Any:
        """Have the program write its outputs, and read them."""
        import numpy as np

        files = self.ask({"do": "outputs", "folder": self.folder.name}).get("files", [])
        arrays = tuple(np.load(file, allow_pickle=False) for file in files)
        return arrays[0] if len(arrays) == 1 else arrays

    def fallbacks(self) -> dict[str, str]:
        """Return what the program tells; a program that does not know the question has none."""
        try:
            return {str(key): str(value) for key, value in self.ask({"do": "fallbacks"}).items()}
        except (RuntimeError, Unavailable):
            return {}
