"""A process that does stages: one a request, until its driver ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from efflab.foundation.child_server import serve
from efflab.foundation.errors import Paused
from efflab.foundation.progress import Report


def do_stage(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Do the stage that a request names, and return its status, result and seconds."""
    import torch

    from efflab.execution.stages.execute import execute

    torch.set_num_threads(job["threads"])
    started, status = time.perf_counter(), "ok"
    try:
        result = execute(job["kind"], job["spec"], [Path(path) for path in job["needs"]], Path(job["folder"]), report)
    except Paused as pause:
        status, result = "paused", pause.result
    return {"status": status, "result": result, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    serve(do_stage, goes_on=True)
