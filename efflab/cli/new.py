"""Write the skeleton of a backend of your own: one file, commented, that `efflab validate` takes from red to green."""

from __future__ import annotations

import argparse

HELP = "write the skeleton of a backend plug-in"

SKELETON = '''"""Runs an ONNX graph on {name}."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from efflab.backend import Arrays, Backend, Session

if TYPE_CHECKING:
    from efflab.artefact import Artefact


class {title}(Backend):
    """{name}; annotated fields below are its settings in recipes and in `efflab validate --set`."""

    takes: ClassVar[str] = "onnx"  # or "module", for a torch.nn.Module from artefact.module()
    device: ClassVar[str] = "{name}"  # "cpu" if it is the processor: then threads are checked, too

    fast_math: bool = False  # an example of a setting: replace it

    @classmethod
    def available(cls) -> str | None:
        """Return None where the backend can run, else the reason and the exact line that installs it."""
        # try: import {name}_sdk
        # except ImportError: return "{name}_sdk is not installed: pip install {name}-sdk"
        return None

    def prepare(self, artefact: Artefact, example: Arrays, threads: int) -> Session:
        """Load and compile artefact.onnx for the shapes of `example`, with so many processor threads."""
        # raise Unavailable (from efflab.errors) for what the hardware does not have: that is a refusal, not a fault
        session = {title}Session(str(artefact.onnx), threads)
        session(example)  # what is compiled on the first call belongs here, not into the first timed call
        return session


class {title}Session(Session):
    """One compiled graph. Only `run` followed by `wait` is timed."""

    def __init__(self, path: str, threads: int):
        # 1. load the model here; until then every case says "unsupported", and the exit code is 1
        raise NotImplementedError("{title}Session does not load models yet: fill in {file}")

    def load(self, inputs: Arrays) -> Any:
        """Copy the arrays to the device; the caller's arrays must stay as they are."""
        return inputs

    def run(self, loaded: Any) -> Any:
        """2. Start one forward pass and return a handle of its outputs."""
        raise NotImplementedError

    def wait(self) -> None:
        """3. Return when the device has finished; leave this out if `run` does not return before."""

    def fetch(self, outputs: Any) -> Any:
        """4. Copy outputs to numpy arrays that the next run does not overwrite: one array, or a tuple of two or more."""
        return outputs

    def fallbacks(self) -> dict[str, str]:
        """5. Return operator -> where it runs, for operators that do not run on the device, as your runtime tells."""
        return {{}}
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab new`."""
    parser.add_argument("kind", choices=("backend",), help="what to write")
    parser.add_argument("name", help="its name in recipes: lower case, digits and _")
    parser.add_argument("--out", default="plugins", metavar="FOLDER", help="folder of plug-ins (default: plugins)")


def run(args: argparse.Namespace) -> int:
    """Write the file, and say how to go on."""
    import re
    from pathlib import Path

    from efflab import registry
    from efflab.errors import RequestError

    if not re.fullmatch(r"[a-z][a-z0-9_]*", args.name):
        raise RequestError(f"a backend's name is of lower-case letters, digits and _ (found {args.name!r})")
    if args.name in registry.names("backends"):
        raise RequestError(f"there is a backend {args.name!r} already")
    file = Path(args.out) / "backends" / f"{args.name}.py"
    if file.exists():
        raise RequestError(f"{file} is there already; it is left as it is")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            SKELETON.format(name=args.name, title=registry.class_name(args.name), file=file), encoding="utf-8"
        )
    except OSError as error:
        raise RequestError(f"cannot write {file}: {(error.strerror or str(error)).lower()}") from error
    print(f"{file}\nnext:  export EFFLAB_PLUGINS={args.out}\n       efflab validate {args.name} --quick")
    return 0
