"""Runs the model of this folder. Needs numpy, and onnxruntime for a model.onnx or torch for a model.pt2.

    python run.py                              checks that the example gives the outputs that were measured
    python run.py my_inputs.npy                prints predictions for your own array, examples first
    python run.py my_inputs.npy out.npy        writes them to a file
    python run.py my_inputs.npz                where the model takes several arrays: one of each name

What the inputs must be, and how good the model is, stands in provenance.json.
Exit codes: 0 fine, 1 other outputs than expected, 2 inputs that the model does not take.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
BATCH = 256  # examples in one call, so that a long array does not fill the memory
SMALLEST = 1e-6  # a difference below this is none, however small the outputs are

Model = Callable[["list[np.ndarray]"], "list[np.ndarray]"]  # arrays with examples first -> arrays with examples first


class Wrong(Exception):  # noqa: N818 (not a fault of this script)
    """What was asked for cannot be done; the text says why."""


def load_onnx(path: Path) -> Model:
    """Return the ONNX graph as a function of arrays."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))


def load_torch(path: Path) -> Model:
    """Return the torch.export program as a function of arrays."""
    import torch

    module = torch.export.load(str(path)).module()

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        leaves = torch.utils._pytree.tree_leaves(outputs)
        return [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]  # None stands beside some

    return run


def load(about: dict[str, Any]) -> Model:
    """Return the model; raise Wrong if the library that runs it is not installed."""
    path = HERE / about["model"]
    try:
        return load_onnx(path) if path.suffix == ".onnx" else load_torch(path)
    except ImportError as error:
        needed = "onnxruntime" if path.suffix == ".onnx" else "torch"
        raise Wrong(
            f"{path.name} needs {needed}: pip install {needed}=={about['versions'][needed]} ({error})"
        ) from None


def check(about: dict[str, Any]) -> int:
    """Run the example and compare: return 0 if the outputs are those that were measured, else 1."""
    for name, known in about["files"].items():
        if name != "run.py" and hashlib.sha256((HERE / name).read_bytes()).hexdigest() != known["sha256"]:
            print(f"{name} is not as it was exported: its sha256 is another")
            return 1
    with np.load(HERE / "example.npz", allow_pickle=False) as file:
        inputs = [file[f"input_{index}"] for index in range(len(about["inputs"]))]
        expected = [file[f"output_{index}"] for index in range(len(about["outputs"]))]
    found = load(about)(inputs)
    shapes = [[one.shape for one in side] for side in (found, expected)]
    if shapes[0] != shapes[1]:
        print(f"other outputs: shapes {shapes[0]}, expected {shapes[1]}")
        return 1
    same, told = True, []
    for one, right in zip(found, expected, strict=True):
        difference = largest_difference(one, right)
        allowed = about["tolerance"]["relative"] * float(np.abs(right.astype(np.float64)).max(initial=0)) + SMALLEST
        same = same and difference <= allowed
        told.append(f"{difference:.3g} (allowed: {allowed:.3g})")
    print(f"{'same' if same else 'other'} outputs: largest difference {', '.join(told)} in {len(inputs[0])} examples")
    return 0 if same else 1


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of two arrays of one shape; infinite where only one of two numbers is finite."""
    one, other = found.astype(np.float64), expected.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(one - other))
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0))


def read_inputs(about: dict[str, Any], path: Path) -> list[np.ndarray]:
    """Return the user's arrays in the order of the model's inputs; raise Wrong if they do not fit."""
    wanted = about["inputs"]
    names = [one["name"] for one in wanted]
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise Wrong(f"{path} cannot be read as a .npy or .npz file ({error})") from None
    if isinstance(loaded, np.ndarray):
        if len(names) > 1:
            raise Wrong(f"the model takes {len(names)} arrays; give a .npz file with {', '.join(names)}")
        arrays = [loaded]
    else:
        missing = [name for name in names if name not in loaded.files]
        if missing:
            raise Wrong(f"{path} lacks {', '.join(missing)}; it holds {', '.join(loaded.files) or 'nothing'}")
        arrays = [loaded[name] for name in names]
    for array, one in zip(arrays, wanted, strict=True):
        fits(array, one)
    if len({len(array) for array in arrays}) != 1:
        raise Wrong(f"the arrays hold different numbers of examples: {', '.join(str(len(array)) for array in arrays)}")
    return arrays


def fits(array: np.ndarray, wanted: dict[str, Any]) -> None:
    """Raise Wrong if an array has not the shape and dtype that the model takes."""
    shape, name = wanted["shape"], wanted["name"]
    shown = f"({', '.join(map(str, shape))})"
    if array.ndim != len(shape) or any(
        size != given for size, given in zip(shape, array.shape, strict=True) if isinstance(size, int)
    ):
        hint = "; one example needs an axis in front: array[None]" if array.ndim == len(shape) - 1 else ""
        raise Wrong(f"{name} has shape {array.shape}, but the model takes {shown}{hint}")
    if not len(array):
        raise Wrong(f"{name} holds no examples")
    if str(array.dtype) != wanted["dtype"]:
        raise Wrong(
            f"{name} holds {array.dtype}, but the model takes {wanted['dtype']}: array.astype({wanted['dtype']!r})"
        )


def predict(model: Model, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of all examples, worked out in batches."""
    starts = range(0, len(arrays[0]), BATCH)
    parts = [model([array[start : start + BATCH] for array in arrays]) for start in starts]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def answer(about: dict[str, Any], source: Path, out: Path | None) -> int:
    """Print or write the predictions for the user's own inputs."""
    inputs = read_inputs(about, source)
    outputs = predict(load(about), inputs)
    names = [one["name"] for one in about["outputs"]]
    for name, array in zip(names, outputs, strict=True):
        print(f"{name}: {array.dtype}, shape {array.shape}")
        if out is None:
            print(np.array2string(array, precision=5, suppress_small=True))
    if out is not None:
        with out.open("wb") as file:
            if len(outputs) == 1:
                np.save(file, outputs[0])
            else:
                np.savez(file, **dict(zip(names, outputs, strict=True)))
        print(f"written to {out}")
    return 0


def main(words: list[str]) -> int:
    """Do what the command line asks for and return the exit code."""
    if len(words) > 2 or any(word.startswith("-") for word in words):
        print(__doc__)
        return 0 if words[0] in ("-h", "--help") else 2
    about = json.loads((HERE / "provenance.json").read_text(encoding="utf-8"))
    try:
        if not words:
            return check(about)
        return answer(about, Path(words[0]), Path(words[1]) if len(words) > 1 else None)
    except (Wrong, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
