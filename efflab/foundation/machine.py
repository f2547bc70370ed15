"""Says on which machine, with which versions and under what load numbers were made."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from efflab.foundation.cpu_limit import count, cpu_limit

PACKAGES = ("torch", "onnxruntime", "openvino", "nncf", "numpy", "torch_pruning", "onnx", "efflab")
DISTRIBUTIONS = {"torch_pruning": "torch-pruning"}
FLAG_STARTS = ("avx", "amx", "sse4_2", "fma", "f16c", "vnni", "asimd", "sve", "bf16", "i8mm")
MOST_BUSY_SHARE = 0.15  # of all processors, by others, for a machine to be called quiet
MOST_STEAL_SHARE = 0.02

ROOT = Path("/")  # below which control groups are looked up
PROC = Path("/proc")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def fingerprint() -> dict[str, Any]:
    """Describe this machine: processor, memory, system, GPUs and the versions of the libraries that run models."""
    return json.loads(_fingerprint())  # type: ignore[no-any-return]  # a fresh copy for each caller


@cache
def _fingerprint() -> str:
    memory = _field(_read(PROC / "meminfo"), "MemTotal")
    found = {
        **_processor(_read(PROC / "cpuinfo")),
        "threads": os.cpu_count() or 1,
        "threads_allowed": processors(),
        **_limits(),
        "governor": _read(GOVERNOR).strip() or None,
        "memory_gib": round(int(memory.split()[0]) / 2**20) if memory else None,
        "system": platform.system(),
        "kernel": platform.release(),
        "os": _field(_read(Path("/etc/os-release")), "PRETTY_NAME", "=").strip('"') or platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "gpus": _gpus(),
    }
    return json.dumps(found)


def machine_id(machine: dict[str, Any]) -> str:
    """Return a short id of a fingerprint's hardware and library versions; load, hostname and kernel do not enter.

    efflab's own version does not enter either: it runs no model. A container that may use less processor time than the
    machine has is another machine; which processors it may use does not enter, their number does.
    """
    keys = ("cpu", "flags", "cores", "threads", "threads_allowed", "memory_gib", "system", "python", "gpus")
    relevant = {key: machine.get(key) for key in keys}
    if machine.get("cpu_limit"):
        relevant["cpu_limit"] = machine["cpu_limit"]
    relevant["versions"] = {key: value for key, value in machine.get("versions", {}).items() if key != "efflab"}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]


def load_state(interval_s: float = 0.04) -> dict[str, Any]:
    """Watch the machine for `interval_s`: load average, busy and stolen share of the processors; None where unknown.

    `ticks` are the counters behind it since boot: busy, stolen and all, in 1/100 s over all processors.
    """
    before = _ticks()
    time.sleep(interval_s)
    after = _ticks()
    try:
        load_average = list(os.getloadavg())
    except OSError:
        load_average = None
    return {
        "load_average": load_average,
        "threads": os.cpu_count() or 1,
        "busy_share": _share(before, after, 0),
        "steal_share": _share(before, after, 1),
        "steal_share_since_boot": round(after[1] / after[2], 5) if after and after[2] else None,
        "governor": _read(GOVERNOR).strip() or None,
        "ticks": after,
    }


def quiet(state: dict[str, Any]) -> bool:
    """Say whether so little else ran that times can be trusted.

    The load average decides only where the busy share is unknown: it still remembers work that has ended.
    """
    steal, busy = state.get("steal_share"), state.get("busy_share")
    if steal is not None and steal > MOST_STEAL_SHARE:
        return False
    if busy is None and state.get("load_average"):
        busy = state["load_average"][0] / state.get("threads", 1)
    return busy is not None and busy <= MOST_BUSY_SHARE


def commit() -> str:
    """Return the git commit of the working directory, with `-dirty` if files differ from it; empty if there is none."""
    return _output(["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])


def _processor(cpuinfo: str) -> dict[str, Any]:
    flags = (_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split()
    blocks = [block for block in cpuinfo.split("\n\n") if "processor" in block]
    cores = {(_field(block, "physical id"), _field(block, "core id")) for block in blocks}
    return {
        "cpu": _field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "flags": sorted(flag for flag in flags if flag.startswith(FLAG_STARTS)),
        "cores": len(cores) if cores - {("", "")} else os.cpu_count() or 1,
    }


def processors() -> int:
    """Return on how many processors this process may run."""
    affinity = getattr(os, "sched_getaffinity", None)
    found = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(found, count(cpu_limit(ROOT).allowed) or found)


def usable_processors() -> int:
    """Return how many processors this process can keep busy: those it may run on, within the time that it may use."""
    return min(processors(), max(1, int(cpu_limit(ROOT).processors or processors())))


def _limits() -> dict[str, Any]:
    """Return what a container is limited to; nothing where all of the machine can be used, so that its id stays as it is."""
    limit, told = cpu_limit(ROOT), dict[str, Any]()
    if limit.processors is not None and limit.processors < processors():
        told["cpu_limit"] = round(limit.processors, 3)
    if limit.allowed is not None and count(limit.allowed) < (os.cpu_count() or 1):
        told["cpus_allowed"] = limit.allowed
    return told


def _version(name: str) -> str | None:
    try:
        return version(DISTRIBUTIONS.get(name, name))
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    return _output(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]).splitlines()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _ticks() -> list[int] | None:
    first = _read(PROC / "stat").partition("\n")[0].split()
    if len(first) < 9 or first[0] != "cpu":
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = (int(word) for word in first[1:9])
    busy = user + nice + system + irq + softirq
    return [busy, steal, busy + steal + idle + iowait]


def _share(before: list[int] | None, after: list[int] | None, index: int) -> float | None:
    if before is None or after is None or after[2] <= before[2]:
        return None
    return round((after[index] - before[index]) / (after[2] - before[2]), 4)


def _field(text: str, name: str, separator: str = ":") -> str:
    for line in text.splitlines():
        key, found, value = line.partition(separator)
        if found and key.strip() == name:
            return value.strip()
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def own_seconds() -> float:
    """Return the processor time of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def quiet_between(before: dict[str, Any], after: dict[str, Any], own_s: float) -> bool:
    """Say whether the machine was quiet before, after, and, beside our own work, in between."""
    during: dict[str, Any] = {"busy_share": 0.0, "steal_share": 0.0}
    if before["ticks"] and after["ticks"]:
        busy, steal, total = (late - early for early, late in zip(before["ticks"], after["ticks"], strict=True))
        own_ticks = own_s * os.sysconf("SC_CLK_TCK")
        if total > 0:
            during = {"busy_share": max(0.0, busy - own_ticks) / total, "steal_share": steal / total}
    return all(quiet(state) for state in (before, during, after))
