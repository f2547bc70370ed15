"""What the checks of behaviour look with: outputs as copies, how far two lists of them lie apart, processors in use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from efflab.foundation.errors import text_of
from efflab.profiling.quality import leaves
from efflab.validation.verdict import is_refusal

CLOSE = 1e-4  # of the largest output: sums of another batch size may run in another order


def run(session: Any, rows: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Run one call and return copies of its outputs."""
    return [np.array(leaf) for leaf in leaves(session(rows))]


def gap(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Return the largest difference of two lists of outputs; infinite where shapes or NaN differ."""
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        with np.errstate(invalid="ignore"):
            worst = max(worst, float(np.nan_to_num(np.abs(a.astype(float) - b), nan=0.0).max(initial=0.0)))
    return worst


def apart(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    """Say whether outputs differ by more than another order of sums explains."""
    size = max((float(np.nan_to_num(np.abs(one)).max(initial=0.0)) for one in wanted), default=1.0)
    return gap(found, wanted) > CLOSE * max(size, 1e-6)


def processors_wanted(session: Any, rows: tuple[np.ndarray, ...]) -> float:
    """Return how many processors the threads of this process want while calls run, whether or not they get them."""
    loaded = session.load(rows)
    session.run(loaded)
    session.wait()
    wall, wanted = time.perf_counter(), _wanted_seconds()
    while time.perf_counter() - wall < 0.5:
        session.run(loaded)
        session.wait()
    return (_wanted_seconds() - wanted) / (time.perf_counter() - wall)


def _wanted_seconds(proc: Path = Path("/proc/self/task")) -> float:
    """Return the seconds that the threads of this process ran or were ready to run; where unknown, those that they ran."""
    told = [file.read_text().split() for file in proc.glob("*/schedstat")]
    return sum(int(ran) + int(ready) for ran, ready, _ in told) / 1e9 if told else time.process_time()


def refusal_words(error: Exception) -> str:
    """Return what an exception says, with its type where it does not say that something is not supported."""
    kind = "" if is_refusal(error) else f"{type(error).__name__}: "
    return (kind + " ".join(text_of(error).split()))[:200]
