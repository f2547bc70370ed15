"""A program as the `command` backend expects it, on ONNX Runtime; a fault may be named as its argument."""

import json
import os
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import onnxruntime

fault = sys.argv[1] if len(sys.argv) > 1 else ""
session, inputs, outputs = None, [], []


def answer(request):
    global session, inputs, outputs
    if request["do"] == "load":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = request["threads"], 4
        session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
    elif request["do"] == "inputs":
        pairs = zip((np.load(file) for file in request["files"]), request["types"], strict=True)
        inputs = [array.view(getattr(ml_dtypes, name, array.dtype)) for array, name in pairs]
    elif request["do"] == "run":
        if fault == "dies":
            os.abort()
        time.sleep(3600 if fault == "hangs" else 0)
        started = time.perf_counter_ns()
        outputs = session.run(None, dict(zip((one.name for one in session.get_inputs()), inputs, strict=True)))
        return {"ns": "soon" if fault == "no_time" else time.perf_counter_ns() - started}
    elif request["do"] == "outputs":
        files = [str(Path(request["folder"]) / f"out{index}.npy") for index in range(len(outputs))]
        for file, array in zip(files, outputs, strict=True):
            np.save(file, array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}"))
        return {"files": files, "types": [str(array.dtype) for array in outputs]}
    elif request["do"] == "fallbacks" and fault == "falls_back":
        return {"Conv": "host"}
    return {}


for line in sys.stdin:
    try:
        told = answer(json.loads(line))
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}", "unsupported": "NOT_IMPLEMENTED" in str(error)}
    print("no JSON" if fault == "chatty" else json.dumps(told), flush=True)
