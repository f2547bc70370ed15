"""Estimates the peak rate of the processor, and from it what a training cost."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efflab.foundation.errors import RequestError
from efflab.records.cost import Cost

if TYPE_CHECKING:
    from torch import nn

    from efflab.contracts.task import Task

# FLOP (fp32, a fused multiply-add counts 2) per cycle and core: units x lanes x 2
FLOP_PER_CYCLE = {"avx512f": 64, "fma": 32, "avx": 16, "sse2": 8, "asimd": 16}
GPU_LANES = 128  # fp32 units of a multiprocessor (CUDA programming guide, arithmetic instructions; 8.6 and later)
ASSUMED_HZ = 2.5e9  # where the system does not tell the clock
TRAINING_PASSES = 3  # a backward pass is about twice the forward one


@functools.cache
def processor_flags() -> frozenset[str]:
    """Return the processor's feature flags in lower case; empty where the system does not list them."""
    for line in _cpu_lines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(value.lower().split())
    return frozenset({"asimd"} if platform.machine().lower() in ("arm64", "aarch64") else set())


def flop_per_cycle(flags: frozenset[str], vendor: str = "") -> int:
    """Return the peak fp32 FLOP per cycle and core that a processor with `flags` can do."""
    if vendor == "AuthenticAMD" and "avx512f" in flags and "avx512_fp16" not in flags:
        # Zen 4 runs 512-bit operations in two halves
        return FLOP_PER_CYCLE["fma"]
    return next((flop for flag, flop in FLOP_PER_CYCLE.items() if flag in flags), 2)


def peak_flop_per_s(cores: int = 1) -> float:
    """Estimate the peak fp32 rate of `cores` cores in FLOP/s: cores x clock x FLOP per cycle of the widest vector unit.

    An estimate from feature flags and the rated clock, good to a factor of two; it is the "rate" of the hardware
    burden, processors x rate x time (Thompson et al. 2020, arXiv 2007.05558), which compares orders of magnitude.
    """
    return cores * _clock_hz() * flop_per_cycle(processor_flags(), _vendor())


def training_cost(
    module: nn.Module,
    task: Task,
    examples: float,
    seconds: float,
    teachers: Sequence[nn.Module] = (),
    device: str | None = None,
) -> Cost:
    """Return what `examples` training examples cost: 3 forward passes each, plus one of each teacher.

    seconds: the time it took on `torch.get_num_threads()` cores, or on the GPU if `device` (by default where efflab trains)
    is that.
    """
    import torch

    rate = _gpu_flop_per_s() if (device or training_device()) == "cuda" else peak_flop_per_s(torch.get_num_threads())
    macs = TRAINING_PASSES * macs_per_example(module, task)
    macs += sum(macs_per_example(teacher, task) for teacher in teachers)
    return Cost(float(macs * examples), seconds, rate * seconds)


def training_device() -> str:
    """Return where efflab trains: `cpu`, or `cuda` if EFFLAB_TRAIN_ON says so; raise RequestError if that is not here."""
    import torch

    wanted = os.environ.get("EFFLAB_TRAIN_ON") or "cpu"
    if wanted not in ("cpu", "cuda"):
        raise RequestError(f"EFFLAB_TRAIN_ON is {wanted!r}; it is cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("EFFLAB_TRAIN_ON is cuda, but PyTorch finds no GPU here; unset it to train on the processor")
    return wanted


def _gpu_flop_per_s() -> float:
    """Return the peak fp32 rate of the first GPU: multiprocessors x 128 lanes (since Ampere) x 2 FLOP x clock."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return float(properties.multi_processor_count * GPU_LANES * 2 * properties.clock_rate * 1e3)


def macs_per_example(module: nn.Module, task: Task) -> int:
    """Return the MACs of one forward pass of one training example."""
    from efflab.contracts.examples import example_inputs
    from efflab.profiling.work_module import count_module

    return count_module(module, example_inputs(task, 1))["macs"]


def add_cost(total: Cost, part: Cost) -> None:
    """Add `part` to `total` in place."""
    total.add(part)


@functools.cache
def _cpu_lines() -> tuple[str, ...]:
    try:
        return tuple(Path("/proc/cpuinfo").read_text().splitlines())
    except OSError:
        return ()


def _vendor() -> str:
    return next((line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("vendor_id")), "")


@functools.cache
def _clock_hz() -> float:
    try:
        return float(Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").read_text()) * 1e3
    except (OSError, ValueError):
        pass
    clocks = [float(line.partition(":")[2]) for line in _cpu_lines() if line.startswith("cpu MHz")]
    return max(clocks) * 1e6 if clocks else ASSUMED_HZ
