"""Makes a synthetic study whose truth is known: dense members on a power law, variants with planted shifts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from efflab.records.record import Record
from efflab.records.samples import pack_scores
from efflab.records.study import SCHEMA, Study

A, B = 1.0, -0.25  # error = 10 * macs ** -0.25: power 4
EXAMPLES = 2000
FAMILY = {"net-w4": 1e5, "net-w8": 4e5, "net-w12": 9e5, "net-w16": 1.6e6, "net-w24": 3.6e6, "net-w32": 6.4e6}
BASELINE = "net-w24"
MILLISECONDS_PER_MAC = 1e-6  # latency falls on a power law too: error = 10 ** -0.5 * ms ** -0.25


def error_at(macs: float) -> float:
    """The error of the dense family."""
    return float(10**A * macs**B)


def scores_with_error(error: float, phase: int = 0, examples: int = EXAMPLES) -> np.ndarray:
    """0/1 scores with exactly round(error x examples) zeros; models of equal phase fail on nested sets of examples."""
    hardness = np.random.default_rng(phase).permutation(examples)
    return (hardness >= round(error * examples)).astype(np.uint8)


STARTS = [3, 3, 3, 3]


def rounds_of(latency_ms: float, size: int = 11, spread: float = 0.01, seed: int = 0) -> list[list[float]]:
    """Times of four starts whose medians have the geometric mean latency_ms, with drift that all sessions of a round share."""
    rounds = sum(STARTS)
    drift = np.random.default_rng(99).normal(0, 3 * spread, (rounds, 1))
    noise = drift + np.random.default_rng(seed).normal(0, spread, (rounds, size))
    middle = np.median(noise.reshape(len(STARTS), -1), axis=1).mean()
    scaled: list[list[float]] = (np.exp(noise - middle) * latency_ms).round(9).tolist()
    return scaled


def record(
    variant: str, macs: float, error: float, *, role: str = "variant", latency_ms: float | None = None, seed: int = 0,
    noise_seed: int = 0, steps: tuple[str, ...] = (), backend: str = "torch", batch_size: int = 1, machine: str = "m1",
    bits: int = 32, recovery_macs: float = 0.0, phase: int = 0, examples: int = EXAMPLES, **more: Any,
) -> Record:  # fmt: skip
    """One fine record."""
    made: Record = {
        "variant": variant, "role": role, "of": BASELINE if role not in ("baseline", "dense") else None,  # type: ignore[typeddict-item]
        "parent": None, "steps": [{step: {}} for step in steps], "baseline": variant if role == "dense" else BASELINE,
        "family": "net", "task": "synthetic", "seed": seed, "backend": backend, "device": "cpu",
        "batch_size": batch_size, "machine": machine, "status": "ok", "reason": "",
        "work": {
            "macs": round(macs), "effective_macs": round(macs), "bit_operations": round(macs) * bits * bits,
            "params": round(macs) // 10, "nonzero_params": round(macs) // 10,
            "artefact_bytes": round(macs) * bits // 80, "coverage": 1.0, "uncounted": {},
        },
        "quality": {
            "metric": "accuracy", "value": 1 - round(error * examples) / examples,
            "scores": pack_scores(scores_with_error(error, phase, examples)),
        },
        "recovery": {"training_macs": recovery_macs, "seconds": recovery_macs / 1e9, "hardware_burden_flop": 0.0},
        "margin": 0.01,
    }  # fmt: skip
    if latency_ms is not None:
        made["latency"] = {
            "rounds_ms": rounds_of(latency_ms * batch_size, seed=noise_seed), "starts": [*STARTS],
            "overhead_us": 0.2, "warmup_runs": 10,
            "prepare_s": 0.5, "throughput_per_s": 1000 / latency_ms, "peak_memory_bytes": 50_000_000, "energy_j": None,
            "energy_method": "", "group": f"{backend}/{batch_size}", "quiet": True, "threads": 1,
        }  # fmt: skip
    made.update(more)  # type: ignore[typeddict-item]
    return made


def failed(variant: str, reason: str, *, status: str = "failed", **more: Any) -> Record:
    """A record of something that could not be measured."""
    made = record(variant, 1e6, 0.2, **more)
    for name in ("work", "quality", "recovery"):
        del made[name]  # type: ignore[misc]
    made["status"], made["reason"] = status, reason  # type: ignore[typeddict-item]
    return made


def study_of(records: list[Record], name: str = "synthetic") -> Study:
    """A study around records."""
    fingerprint = {"cpu": "Test CPU @ 2 GHz", "cores": 2, "memory_bytes": 8 << 30}
    machines = {one["machine"]: {**fingerprint, "host": one["machine"]} for one in records}
    return {
        "schema": SCHEMA, "name": name, "recipe": f"name: {name}\n", "efflab": "0.1.0", "commit": "abc1234",
        "data": {"synthetic": "sha256:0"}, "machines": machines, "records": records,
    }  # fmt: skip


PRUNE, QUANTIZE = ("prune_channels", "finetune"), ("export_onnx", "quantize_static")
# name, role, share of the baseline's MACs, share at whose error it stands, share of its time, bits, steps, seeds
VARIANTS: list[tuple[str, str, float, float, float, int, tuple[str, ...], int]] = [
    (BASELINE + " (A/A)", "repeat", 1, 1, 1, 32, (), 1),
    ("prune50", "variant", 0.5, 0.8, 2 / 3, 32, PRUNE, 3),  # shift 1.6 on MACs, 1.2 on time
    ("prune50-random", "control", 0.5, 0.3, 2 / 3, 32, PRUNE, 3),  # worse than a smaller dense model: 0.6 and 0.45
]
ONLY = {
    "torch": [("bf16", "variant", 1, 1, 1.1, 16, ("cast",), 1)],
    "onnxruntime": [
        ("int8", "variant", 1, 0.98, 0.4, 8, QUANTIZE, 1),
        ("prune50-int8", "variant", 0.5, 0.7, 0.24, 8, PRUNE + QUANTIZE, 1),
    ],
}


def example_records(machine: str = "m1", slower: float = 1.0) -> list[Record]:
    """The family on its law, an A/A row, variants with planted shifts, and two rows that could not be measured."""
    records, base = [], FAMILY[BASELINE]
    for backend, batch_size in itertools.product(ONLY, (1, 64)):
        place: dict[str, Any] = {"backend": backend, "batch_size": batch_size, "machine": machine}
        per_mac = MILLISECONDS_PER_MAC * slower * (0.4 if backend == "onnxruntime" else 1)
        for number, (name, macs) in enumerate(FAMILY.items()):
            place["role"] = "baseline" if name == BASELINE else "dense"
            records.append(record(name, macs, error_at(macs), latency_ms=macs * per_mac, noise_seed=number, **place))
        for name, role, work, level, time, bits, steps, seeds in VARIANTS + ONLY[backend]:
            place |= {"role": role, "bits": bits, "steps": steps, "noise_seed": 40 + len(name)}
            place["recovery_macs"] = 5e12 if "finetune" in steps else 0.0
            for seed in range(seeds):
                taken = base * time * per_mac if seed == 0 else None
                records.append(record(name, base * work, error_at(base * level), latency_ms=taken, seed=seed, **place))
    records.append(failed("prune90", "RuntimeError: all channels of layer 3 were pruned", machine=machine))
    reason = 'openvino is not installed; pip install "efflab[openvino]"'
    records.append(failed("int8", reason, status="unavailable", backend="openvino", machine=machine))
    return records


def example_study(machine: str = "m1", slower: float = 1.0, name: str = "synthetic") -> Study:
    """The study of `example_records`."""
    return study_of(example_records(machine, slower), name)
