"""What the measuring harness costs, as ratios taken in one run: timing a call, and scoring a split.

    python benchmarks/harness.py [backend]        (default: torch)

Both sides of a ratio use the same session in the same process and take turns, so that the machine's drift hits both.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from efflab import Arrays, Session, Split
from efflab.artefacts.artefact import Artefact, save_module
from efflab.foundation import registry
from efflab.profiling.quality import evaluate
from efflab.profiling.session_server import overhead_ns, timed_calls, warm_up

ROUNDS, CALLS = 60, 30
EXAMPLES, BATCH = 2000, 128


def make_artefact(form: str, folder: Path) -> Artefact:
    from efflab.models.resnet_cifar import resnet_cifar

    settings = {"width": 8, "blocks": 1, "channels": 1}
    model = resnet_cifar(**settings).eval()
    save_module(model, {"model": "resnet_cifar", "settings": settings}, [], folder)
    if form == "onnx":
        import torch

        from efflab.artefacts.artefact import GRAPH, write_structure

        example, batch = torch.zeros(2, 1, 24, 24), torch.export.Dim("batch")
        torch.onnx.export(
            model,
            (example,),
            folder / GRAPH,
            dynamo=True,
            dynamic_shapes=({0: batch},),
            external_data=False,
            verbose=False,
        )
        write_structure(folder, "onnx")
    return Artefact.open(folder)


def bare_calls(session: Session, loaded: object, calls: int) -> list[int]:
    samples = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        session.run(loaded)
        samples.append(time.perf_counter_ns() - start)
    return samples


def latency_ratio(session: Session, loaded: object) -> float:
    """Median by the harness (its overhead subtracted) over the median of a bare loop."""
    warm_up(session, [loaded])
    overhead = overhead_ns(session)
    harness, bare = [], []
    for round_ in range(ROUNDS):
        for side in ("harness", "bare") if round_ % 2 else ("bare", "harness"):
            session.run(loaded)
            if side == "harness":
                harness += [ns - overhead for ns in timed_calls(session, [loaded], CALLS)]
            else:
                bare += bare_calls(session, loaded, CALLS)
    return median(harness) / median(bare)


class FirstLabel:
    """Scores like a classification task, with no data of its own."""

    def scored(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def scores(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return outputs.argmax(axis=-1) == targets


def bare_score(session: Session, inputs: Arrays, targets: np.ndarray) -> np.ndarray:
    outputs = [session((inputs[0][start : start + BATCH],)) for start in range(0, EXAMPLES, BATCH)]
    return np.concatenate(outputs).argmax(axis=-1) == targets


def evaluate_ratio(session: Session) -> float:
    """Seconds of `evaluate` over those of the bare batched loop, with the same answers."""
    images = np.random.default_rng(0).standard_normal((EXAMPLES, 1, 24, 24)).astype(np.float32)
    split = Split((images,), np.zeros(EXAMPLES, np.int64))
    seconds: dict[str, list[float]] = {"harness": [], "bare": []}
    for _ in range(7):
        start = time.perf_counter()
        expected = bare_score(session, split.inputs, split.targets)
        middle = time.perf_counter()
        found = evaluate(session, FirstLabel(), split, BATCH)  # type: ignore[arg-type]
        seconds["harness"].append(time.perf_counter() - middle)
        seconds["bare"].append(middle - start)
        if not np.array_equal(found, expected):
            raise SystemExit("evaluate and the bare loop disagree")
    return median(seconds["harness"]) / median(seconds["bare"])


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "torch"
    backend = registry.load("backends", name)()
    reason = backend.available()
    if reason:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as folder:
        artefact = make_artefact(backend.takes, Path(folder))
        one = (np.zeros((1, 1, 24, 24), np.float32),)
        single = backend.prepare(artefact, one, 1)
        batched = backend.prepare(artefact, (np.zeros((BATCH, 1, 24, 24), np.float32),), 1)
        rows = [
            (
                "median by the harness / by a bare loop",
                f"{latency_ratio(single, single.load(one)):.4f}",
                "0.98 ... 1.02",
            ),
            ("harness overhead per call, us", f"{overhead_ns(single) / 1e3:.3f}", "< 2, and subtracted"),
            ("evaluate / bare batched loop", f"{evaluate_ratio(batched):.3f}", "<= 1.2"),
        ]
    print(f"{name}, one thread")
    for what, value, wanted in rows:
        print(f"  {what:<42} {value:>8}   wanted {wanted}")


if __name__ == "__main__":
    main()
