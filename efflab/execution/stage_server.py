"""A worker process: reads one stage a line on standard input, answers with lines of JSON, ends when its parent does."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from efflab.foundation.errors import Paused, RequestError, Unavailable, disk_full
from efflab.foundation.wording import one_line

LONGEST = 320  # characters of a reason
QUIET_S = 0.3  # at most one progress line in this time


def main() -> None:
    """Serve stages until standard input closes."""
    _die_with_parent()
    # libraries print to stdout; the protocol has a descriptor of its own
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(**message: Any) -> None:
        channel.write(json.dumps(message) + "\n")

    for line in sys.stdin:
        job = json.loads(line)
        last = 0.0

        def report(done: int, total: int, note: str) -> None:
            nonlocal last
            if time.monotonic() - last > QUIET_S:
                last = time.monotonic()
                send(done=done, total=total, note=note)

        send(**_answer(job, report))


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent is killed, so that no orphan writes into a store in use."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG, prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _answer(job: dict[str, Any], report: Any) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        import torch

        from efflab.execution.stages.execute import execute

        torch.set_num_threads(job["threads"])
        result = execute(job["kind"], job["spec"], [Path(path) for path in job["needs"]], Path(job["folder"]), report)
    except Paused as pause:
        return {"status": "paused", "result": pause.result, "seconds": time.perf_counter() - started}
    except Unavailable as error:
        return {"status": "unavailable", "reason": str(error)}
    except RequestError as error:
        return {"status": "failed", "reason": str(error), "refused": True}
    except MemoryError:
        return {"status": "failed", "reason": "out of memory"}
    except Exception as error:
        if disk_full(error):
            return {"status": "disk full", "reason": str(error)}
        import traceback

        traceback.print_exc()
        return {"status": "failed", "reason": one_line(error)[:LONGEST]}
    return {"status": "ok", "result": result, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
