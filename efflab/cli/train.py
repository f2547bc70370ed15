"""Train a card's dense model; an interrupted training goes on where it stopped. Weights, score and cost go into the card."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

HELP = "train a card's dense model for one or more seeds"
SHOW_EVERY_S = 10.0
RECENT_S = 60.0  # the time left follows the speed of so many last seconds: images may grow during a training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("card", nargs="+", help="card name, or its YAML file")
    parser.add_argument("--seed", type=int, action="append", metavar="N", help="seed (repeatable; default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all)")
    parser.add_argument("--checkpoints", type=Path, default=Path(".efflab/training"), help="folder of checkpoints")
    parser.add_argument("--force", action="store_true", help="train seeds that have weights again, and replace those")


def run(args: argparse.Namespace) -> int:
    """Train each card with each seed."""
    from efflab.cards.baseline import load_baseline
    from efflab.cards.card_paths import find_card
    from efflab.foundation.errors import Problem, RequestError
    from efflab.training.train_card import refusals, train_seed

    seeds = list(dict.fromkeys(args.seed or [0]))
    baselines = [load_baseline(path) for path in dict.fromkeys(find_card(name) for name in args.card)]
    problems = refusals(baselines, seeds, args.force)
    if args.threads is not None and args.threads < 1:
        problems.append(Problem("--threads", f"must be at least 1, not {args.threads}"))
    if problems:
        raise RequestError(problems)
    for note in dict.fromkeys(note for baseline in baselines for note in baseline.task.notes()):
        print(f"note: {note}")
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    for seed in seeds:
        for baseline in baselines:
            weights = train_seed(baseline, seed, args.checkpoints, _report(f"{baseline.name} s{seed}"))
            score = f"{baseline.task.metric} {weights.quality:.4f} on the test split"
            print(f"{baseline.name} s{seed}: {score}, {weights.seconds:.0f} s")
    return 0


def _report(name: str) -> Callable[[int, int, str], None]:
    import time
    from collections import deque

    seen: deque[tuple[float, int]] = deque()  # (time, steps done) of the last while
    shown = time.monotonic() - SHOW_EVERY_S

    def report(done: int, total: int, note: str) -> None:
        nonlocal shown
        now = time.monotonic()
        seen.append((now, done))
        while len(seen) > 2 and now - seen[1][0] > RECENT_S:
            seen.popleft()
        if now - shown < SHOW_EVERY_S and done < total:
            return
        shown = now
        print(f"{name}: step {done}/{total}, {note}{_left(seen, total)}", flush=True)

    return report


def _left(seen: Sequence[tuple[float, int]], total: int) -> str:
    """Return the time left at the recent speed, as the tail of a line; nothing before there are two points."""
    from efflab.foundation.wording import duration

    (before, first), (now, done) = seen[0], seen[-1]
    if done in (first, total):
        return ""
    return f", {duration((total - done) * (now - before) / (done - first))} left"
