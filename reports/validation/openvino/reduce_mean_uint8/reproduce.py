"""Runs model.onnx on the inputs beside it and compares with the right output; needs onnx, numpy and a runtime.

python reproduce.py                    on ONNX Runtime
python reproduce.py PACKAGE.BACKEND    on any module with ONNX's backend interface (`prepare(model).run(inputs)`)
python reproduce.py output.npy         on an output that a program of yours wrote for test_data_set_0/input_*.pb

Exit code 1 if the output lies outside tolerance.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

here = Path(__file__).parent
data = here / "test_data_set_0"


def read(kind):
    """Return the tensors of a kind, in order."""
    files = sorted(data.glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())) for path in files]


inputs, (wanted,) = read("input"), read("output")
asked = sys.argv[1] if len(sys.argv) > 1 else "onnxruntime.backend"
if asked.endswith(".npy"):
    found = np.load(asked, allow_pickle=False)
else:
    found = np.asarray(importlib.import_module(asked).prepare(onnx.load(here / "model.onnx")).run(inputs)[0])
if found.shape != wanted.shape:
    sys.exit(f"WRONG on {asked}: shape {found.shape}, expected {wanted.shape}")
right, error = wanted.astype(float), found.astype(float) - wanted.astype(float)
noise, signal = float((error**2).sum()), float((right**2).sum())
sqnr_db = float("inf") if noise == 0 else 10 * np.log10(max(signal, 1e-300) / noise)
told = f"largest error {np.abs(error).max():.6g}, largest value {np.abs(right).max():.6g}, SQNR {sqnr_db:.1f} dB"
if not sqnr_db >= 25:  # also where it is not a number
    sys.exit(f"WRONG on {asked}: {told}, wanted 25 dB")
print(f"right on {asked}: {told}")
