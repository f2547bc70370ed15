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
answer's "types" may be left out where the files hold the types themselves. Strings, sequences and optional values do not travel.

Errors say whose they are: "the program ..." is of what the program did or answered, "efflab ..." of what efflab itself could
not do, such as writing the inputs to a full disk, and that is no fault of the program.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.backend import LONGEST_CALL_NS, Arrays, Backend, Session
from efflab.foundation.errors import Died, Unavailable

if TYPE_CHECKING:
    import numpy as np

    from efflab.artefacts.artefact import Artefact


MOST_ANSWER_BYTES = 1_000_000  # of one line: tensors go by files
FOREIGN = 2  # what numpy's `isbuiltin` says of the types of ml_dtypes


class EfflabError(RuntimeError):
    """Something that efflab itself could not do; the text completes "efflab could not"."""

    def __init__(self, what: str, error: Exception | None = None):
        reason = f": {getattr(error, 'strerror', None) or error}" if error else ""
        super().__init__(f"efflab could not {what}{reason}; that is no fault of the program")


class Command(Backend):
    """A program of the user's own behind a pipe; it times each pass itself, so that the pipe costs nothing."""

    takes: ClassVar[Form] = "onnx"
    device: ClassVar[str] = "command"

    command: Annotated[list[str], Field(min_length=1, description="Program to start, followed by its arguments.")]

    @classmethod
    def available(cls) -> str | None:
        """Nothing is needed but the program, which `prepare` looks for."""
        return None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Start the program and load the graph; raise Unavailable if there is no such program."""
        if shutil.which(self.command[0]) is None:
            raise Unavailable(f"there is no program {self.command[0]!r}")
        if not artefact.onnx.is_file():
            raise EfflabError(f"find the model that it should have written to {artefact.onnx}")
        session = CommandSession(self.command, artefact.onnx.resolve(), threads, example)
        session(example)
        return session


class CommandSession(Session):
    """One running program with one graph; its clock is the time that the program tells."""

    def __init__(self, command: list[str], model: Path, threads: int, example: Arrays):
        for array in example:  # before the program starts: what cannot be handed over is none of its business
            _checked(array)
        try:
            self.folder = tempfile.TemporaryDirectory(prefix="efflab-command-")
        except OSError as error:
            raise EfflabError("make a folder for tensors", error) from error
        try:
            # a group of its own, so that what a script starts ends with it
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        except OSError as error:
            raise Unavailable(f"the program {command[0]!r} cannot be started: {error.strerror or error}") from error
        self.now_ns = 0
        self.clock = lambda: self.now_ns
        shapes = [list(array.shape) for array in example]
        self.ask({"do": "load", "model": str(model), "threads": threads, "shapes": shapes})

    def __del__(self) -> None:
        """End the program, which has nobody to answer any more."""
        process = getattr(self, "process", None)
        if process:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the program's answer; raise Died if it died, Unavailable or RuntimeError if it says that it cannot."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            text = json.dumps(request).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise EfflabError(f"write the request {request['do']!r} as JSON", error) from error
        try:
            self.process.stdin.write(text)
            self.process.stdin.flush()
            line = self.process.stdout.readline(MOST_ANSWER_BYTES)
        except BrokenPipeError:
            line = b""
        if not line:
            raise Died(f"the program {_end(self.process.wait())} at {request['do']!r}")
        if len(line) == MOST_ANSWER_BYTES:
            raise RuntimeError(f"the program answered {request['do']!r} with more than {MOST_ANSWER_BYTES:,} bytes")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise RuntimeError(f"the program answered {request['do']!r} with no JSON object: {line[:80]!r}")
        if "error" in answer:
            told = str(answer["error"])
            raise Unavailable(told) if answer.get("unsupported") else RuntimeError(told)
        return answer

    def load(self, inputs: Arrays) -> Any:
        """Write the arrays to files and have the program put them on its device."""
        import numpy as np

        files = [str(Path(self.folder.name) / f"in{index}.npy") for index in range(len(inputs))]
        arrays = [_checked(array) for array in inputs]
        for file, array in zip(files, arrays, strict=True):
            try:
                np.save(file, _bits(array), allow_pickle=False)
            except (OSError, ValueError) as error:
                raise EfflabError(f"write the inputs of type {array.dtype} to {file}", error) from error
        return {"files": files, "types": [str(array.dtype) for array in arrays]}

    def run(self, loaded: Any) -> Any:
        """Have the program run once, and move the clock by the time that it took."""
        if loaded is not getattr(self, "loaded", None):
            self.ask({"do": "inputs", **loaded})
            self.loaded = loaded
        took = self.ask({"do": "run"}).get("ns")
        if type(took) is not int or not 0 <= took < LONGEST_CALL_NS:
            raise RuntimeError(f"the program answered 'run' without its nanoseconds as a whole number ({took!r})")
        self.now_ns += took
        return self

    def fetch(self, outputs: Any) -> Any:
        """Have the program write its outputs, and read them."""
        answer = self.ask({"do": "outputs", "folder": self.folder.name})
        files, types = answer.get("files"), answer.get("types")
        if not isinstance(files, list) or not files or not all(isinstance(file, str) for file in files):
            raise RuntimeError(f"the program answered 'outputs' without a list of files ({str(files)[:80]})")
        if types is not None and (not isinstance(types, list) or len(types) != len(files)):
            raise RuntimeError(
                f"the program answered with {len(files)} files, and not a type for each ({str(types)[:80]})"
            )
        arrays = tuple(_read(file) for file in files)
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


def _checked(array: Any) -> np.ndarray:
    """Return an input as an array in this machine's own byte order; raise NotImplementedError for what does not travel."""
    import numpy as np

    if not isinstance(array, (np.ndarray, np.generic)):
        raise NotImplementedError(
            "efflab cannot hand sequences and optional values to a program: only arrays are files"
        )
    plain = np.asarray(array, order="C")
    if plain.dtype.kind in "OUSmM":
        raise NotImplementedError(f"efflab cannot hand {plain.dtype} to a program: strings do not travel as .npy files")
    return plain if plain.dtype.isnative else plain.astype(plain.dtype.newbyteorder("="))


def _bits(array: np.ndarray) -> np.ndarray:
    """Return an array as numpy can write it: types of ml_dtypes as unsigned integers of their width."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.isbuiltin == FOREIGN else array


def _read(file: str) -> np.ndarray:
    """Read one output; raise RuntimeError for what is no .npy file, and say whose fault it is."""
    import numpy as np

    try:
        with Path(file).open("rb") as opened:
            array = np.lib.format.read_array(opened, allow_pickle=False)
    except MemoryError as error:
        raise RuntimeError(f"the program's output {file} is too large to be read here") from error
    except OSError as error:
        if not Path(file).is_file():
            raise RuntimeError(f"the program names the output file {file}, and there is none") from error
        raise EfflabError(f"read the program's output {file}", error) from error
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        if "Object arrays" in str(error):
            raise NotImplementedError(
                "efflab cannot read strings and objects of a program: they do not travel"
            ) from error
        raise RuntimeError(f"the program's outputs are not .npy files of numbers ({type(error).__name__})") from error
    return np.asarray(array)


def _of_type(array: np.ndarray, name: str) -> np.ndarray:
    """Return the array that `_bits` made of one of type `name`; raise RuntimeError for a type that nobody has."""
    import ml_dtypes
    import numpy as np

    if str(array.dtype) == name:
        return array
    try:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
    except (TypeError, ValueError) as error:
        raise RuntimeError(f"the program answered with an unknown type {name!r}") from error
    if dtype.kind not in "biufc" and dtype.isbuiltin != FOREIGN:
        raise RuntimeError(f"the program answered with the type {name!r}, which is not of numbers")
    if dtype.itemsize != array.dtype.itemsize:
        raise RuntimeError(f"the program says {name}, and its file holds {array.dtype}")
    return np.ascontiguousarray(array).reshape(array.shape).view(dtype)
