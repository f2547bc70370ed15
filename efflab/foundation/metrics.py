"""The one table of what is measured: unit, better direction, and one plain sentence each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """A quantity of a profile; `better` is -1 where lower is better and +1 where higher is."""

    name: str
    unit: str
    better: int
    sentence: str


METRICS = {
    metric.name: metric
    for metric in [
        Quantity("macs", "MAC", -1, "multiply-accumulates of one forward pass of one example (1 MAC = 2 FLOP)"),
        Quantity("effective_macs", "MAC", -1, "MACs left when those with a zero weight are skipped"),
        Quantity("bit_operations", "bit^2", -1, "MACs x weight bits x activation bits"),
        Quantity("params", "", -1, "numbers that the model stores as weights"),
        Quantity("nonzero_params", "", -1, "params that are not zero"),
        Quantity("artefact_bytes", "B", -1, "bytes of the artefact's files on disk"),
        Quantity("quality", "", +1, "the task's metric on the test split, measured on the profiled backend"),
        Quantity("error", "", -1, "1 - quality"),
        Quantity(
            "latency_ms_p50",
            "ms",
            -1,
            "median time of one call at the given batch size; over several inputs the mean of their medians",
        ),
        Quantity("latency_ms_p90", "ms", -1, "upper bound of the 90th percentile at 99 % confidence"),
        Quantity("latency_ms_p95", "ms", -1, "upper bound of the 95th percentile at 99 % confidence"),
        Quantity("latency_ms_p99", "ms", -1, "upper bound of the 99th percentile at 99 % confidence"),
        Quantity("throughput_per_s", "1/s", +1, "examples a second, batches back to back"),
        Quantity("peak_memory_bytes", "B", -1, "resident memory of the measuring process above an empty one"),
        Quantity("energy_j", "J", -1, "energy of one call, measured, or an estimate that says so"),
        Quantity("prepare_s", "s", -1, "time to load and compile the artefact"),
    ]
}
