"""Peak memory of a process: the high-water mark of its resident set above a mark taken earlier."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

SELF = Path("/proc/self")


def resident_bytes(proc: Path = SELF) -> int | None:
    """Return the resident set of this process now, in bytes; None where the system does not tell."""
    return _status(proc, "VmRSS")


def peak_bytes(proc: Path = SELF) -> int:
    """Return the largest resident set since start or the last `reset_peak`, in bytes."""
    peak = _status(proc, "VmHWM")
    if peak is not None:
        return peak
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def reset_peak(proc: Path = SELF) -> bool:
    """Start the high-water mark again at the present resident set; False where the system does not allow it."""
    try:
        (proc / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def above(mark_bytes: int | None, proc: Path = SELF) -> int | None:
    """Return by how many bytes the peak rose above `mark_bytes`; None without a mark."""
    return None if mark_bytes is None else max(0, peak_bytes(proc) - mark_bytes)


def _status(proc: Path, name: str) -> int | None:
    try:
        text = (proc / "status").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
