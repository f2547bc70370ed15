"""Energy: read from RAPL or NVML where they can be read; else an estimate that says so and names its factor."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
# Published TDP / physical cores: EPYC 9654 360 W / 96 = 3.8, EPYC 7763 280 / 64 = 4.4, Xeon 8480+ 350 / 56 = 6.3
WATTS_A_CORE = 5.0


def rapl_counters(root: Path = POWERCAP) -> dict[str, tuple[int, int]]:
    """Return {package: (energy, range after which it starts again)} in microjoules; empty where unreadable."""
    counters = {}
    # "intel-rapl:0" is a package; "intel-rapl:0:1" is a part of it and would count twice (AMD uses these names too)
    for zone in sorted(root.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:
            continue
        try:
            energy = int((zone / "energy_uj").read_text())
            counters[zone.name] = (energy, int((zone / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            continue
    return counters


def rapl_joules(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float:
    """Return the joules between two readings, each counter having started again at most once."""
    total = 0
    for name, (start, span) in before.items():
        used = after[name][0] - start if name in after else 0
        total += used if used >= 0 else used + span
    return total / 1e6


def is_nvidia(device: str) -> bool:
    """Say whether NVML can tell of a backend's device."""
    return device.startswith("cuda")


def gpu_watts() -> float | None:
    """Return the power that the first GPU draws now (NVML through nvidia-smi), in watts; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return float(done.stdout.strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def estimate(seconds: float, threads: int) -> tuple[float, str]:
    """Return (joules, method) of `seconds` on `threads` processor cores, from the TDP of a core."""
    return WATTS_A_CORE * threads * seconds, f"estimate: {WATTS_A_CORE:g} W TDP a core x {threads} x median time"


def energy_of_call(
    seconds: float, threads: int, device: str, rapl_j: float | None, watts: float | None
) -> tuple[float | None, str]:
    """Return (joules of one call, method) by the best source there is.

    seconds: median time of a call. rapl_j: joules a call by RAPL. watts: power drawn by the GPU during calls.
    """
    if device != "cpu":
        if not is_nvidia(device) or watts is None:
            return None, f"none: the power of {device} cannot be read"
        return watts * seconds, "measured: NVML power x median time"
    if rapl_j is not None:
        return rapl_j, "measured: RAPL, whole package"
    return estimate(seconds, threads)
