"""Scores of single examples, as a study keeps them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def pack_scores(scores: np.ndarray) -> dict[str, Any]:
    """Encode per-example scores as JSON: a bit each where all are 0 or 1, else float32."""
    import numpy as np

    if scores.ndim == 1 and np.isin(scores, (0, 1)).all():
        return {"bits": base64.b64encode(np.packbits(scores.astype(np.uint8)).tobytes()).decode(), "n": len(scores)}
    data = base64.b64encode(np.ascontiguousarray(scores, dtype="<f4").tobytes()).decode()
    return {"float32": data, "shape": list(scores.shape)}


def unpack_scores(packed: dict[str, Any]) -> np.ndarray:
    """Decode what `pack_scores` encoded."""
    import numpy as np

    if "bits" in packed:
        bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
        return np.unpackbits(bits, count=packed["n"])
    return np.frombuffer(base64.b64decode(packed["float32"]), dtype="<f4").reshape(packed["shape"])


def _mean_score(packed: dict[str, Any]) -> float | None:
    """Return the mean of packed scores, None where an example has several; raise ValueError for a wrong number of them."""
    if "bits" not in packed:
        scores = unpack_scores(packed)
        return float(scores.mean(dtype=float)) if scores.ndim == 1 and len(scores) else None
    raw, n = base64.b64decode(packed["bits"], validate=True), packed["n"]
    if type(n) is not int or n < 1 or len(raw) != -(-n // 8):
        raise ValueError(f"{len(raw)} bytes for n = {n!r}")
    return int.from_bytes(raw).bit_count() / n
