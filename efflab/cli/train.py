"""Train a card's dense model; an interrupted training goes on where it stopped. Weights, score and cost go into the card."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

HELP = "train a card's dense model for one or more seeds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("card", nargs="+", help="card name, or its YAML file")
    parser.add_argument("--seed", type=int, action="append", metavar="N", help="seed (repeatable; default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all)")
    parser.add_argument("--checkpoints", type=Path, default=Path(".efflab/training"), help="folder of checkpoints")


def run(args: argparse.Namespace) -> int:
    """Train each card with each seed."""
    from efflab.baseline import find_card, load_baseline

    baselines = [load_baseline(find_card(name)) for name in args.card]
    import torch

    from efflab.train import train_seed

    if args.threads:
        torch.set_num_threads(args.threads)
    for seed in args.seed or [0]:
        for baseline in baselines:
            weights = train_seed(baseline, seed, args.checkpoints, _report(f"{baseline.name} s{seed}"))
            print(
                f"{baseline.name} s{seed}: {baseline.task.metric} {weights.quality:.4f} on the test split, {weights.seconds:.0f} s"
            )
    return 0


def _report(name: str) -> Callable[[int, int, str], None]:
    import time

    state = {"shown": 0.0, "started": time.monotonic(), "first": -1}

    def report(done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if state["first"] < 0:
            state["first"] = done
        if now - state["shown"] < 10 and done < total:
            return
        state["shown"] = now
        speed = (done - state["first"]) / max(now - state["started"], 1e-9)
        left = f", {(total - done) / speed / 60:.0f} min left" if speed > 0 else ""
        print(f"{name}: step {done}/{total}, {note}{left}", flush=True)

    return report
