"""The sums of a MAC ledger: products, bits, weights, and what had no formula."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from efflab.records.record import Work


@dataclass
class Ledger:
    """Sums of one forward pass; MACs are exact integers, effective MACs are rounded at the end."""

    macs: int = 0
    effective_macs: float = 0.0
    bit_operations: int = 0
    counted: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)

    def add(self, macs: int, share: float, bits: int) -> None:
        """Add one product: `share` of its MACs have no zero weight; `bits` = weight bits x activation bits."""
        self.macs += macs
        self.effective_macs += macs * share
        self.bit_operations += macs * bits

    def work(self, params: int, nonzero_params: int, artefact_bytes: int, examples: int = 1) -> Work:
        """Return the record's form, for one of `examples` examples."""
        operators = self.counted + sum(self.uncounted.values())
        return {
            "macs": self.macs // examples,
            "effective_macs": round(self.effective_macs / examples),
            "bit_operations": self.bit_operations // examples,
            "params": params,
            "nonzero_params": nonzero_params,
            "artefact_bytes": artefact_bytes,
            "coverage": self.counted / operators if operators else 1.0,
            "uncounted": dict(self.uncounted),
        }
