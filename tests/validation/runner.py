"""A program as the `command` backend expects it, on ONNX Runtime; a fault may be named as its argument."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

fault = sys.argv[1] if len(sys.argv) > 1 else ""
session, inputs, outputs = None, [], []
for line in sys.stdin:
    request = json.loads(line)
    answer = {}
    if request["do"] == "load":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = request["threads"], 4
        try:
            session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
        except Exception as error:
            answer = {"error": str(error), "unsupported": "NOT_IMPLEMENTED" in str(error)}
    elif request["do"] == "inputs":
        inputs = [np.load(file) for file in request["files"]]
    elif request["do"] == "run":
        if fault == "dies":
            os.abort()
        started = time.perf_counter_ns()
        outputs = session.run(None, dict(zip((one.name for one in session.get_inputs()), inputs, strict=True)))
        answer = {"ns": "soon" if fault == "no_time" else time.perf_counter_ns() - started}
    elif request["do"] == "outputs":
        files = [str(Path(request["folder"]) / f"out{index}.npy") for index in range(len(outputs))]
        for file, array in zip(files, outputs, strict=True):
            np.save(file, array)
        answer = {"files": files}
    elif request["do"] == "fallbacks" and fault == "falls_back":
        answer = {"Conv": "host"}
    print("no JSON" if fault == "chatty" else json.dumps(answer), flush=True)
