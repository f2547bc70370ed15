"""What it takes to run a finished recipe again, and to plan one: python benchmarks/rerun.py [variants, default 12]

Makes a recipe of variants of a tiny untrained net, eight seeds each, on the fake backend, runs it once, and then, in fresh
processes in turn, `import efflab.run`, the same run again, `efflab plan`, and `import torch`. Prints medians: seconds of a
second run beyond the import (the aim is at most 0.5 for 200 stages), and processor time of `plan` as a share of that of
`import torch` (at most 0.25).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

RUNS = 7
SEEDS = 8  # only the first is timed, so that few sessions run side by side
PACE = "min_runs: 11, min_seconds: 0.001, max_seconds: 0.002, rounds: 5, controls: false, threads: 1"
AGAIN = "from pathlib import Path; from efflab.run import run_file; run_file(Path('many.yaml'))"
COMMANDS = {
    "import": [sys.executable, "-c", "import efflab.run"],
    "again": [sys.executable, "-c", AGAIN],
    "plan": [sys.executable, "-m", "efflab.cli.main", "plan", "many.yaml"],
    "torch": [sys.executable, "-c", "import torch"],
}


def make_world(variants: int) -> None:
    """Write a card, its weights and the recipe into the working directory."""
    import torch
    from safetensors.torch import save_file

    from efflab.models.resnet_cifar import resnet_cifar

    Path("baselines").mkdir()
    torch.manual_seed(0)
    weights = Path("baselines/small.safetensors")
    save_file(resnet_cifar(4, 1, 1).state_dict(), str(weights))
    Path("baselines/small.yaml").write_text(
        "name: small\ntask: {digits_clutter: {train: 64, validation: 64, test: 64}}\n"
        "model: {resnet_cifar: {width: 4, blocks: 1, channels: 1}}\n"
        f"weights: [{{file: small.safetensors, sha256: {hashlib.sha256(weights.read_bytes()).hexdigest()}}}]\n"
    )
    shares = [0.2 + 0.6 * one / variants for one in range(variants)]
    lines = [
        f"  v{one}: [{{prune_weights: {{sparsity: {share:.4f}, importance: random}}}}]"
        for one, share in enumerate(shares)
    ]
    Path("many.yaml").write_text(
        "name: many\nbaseline: small\nvariants:\n" + "\n".join(lines) + "\n"
        f"measure: {{backends: [fake], seeds: {[*range(SEEDS)]}, batch_sizes: [1], {PACE}}}\n"
    )


def seconds(command: list[str]) -> tuple[float, float]:
    """Return wall clock and processor time of a command."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Print the two figures."""
    variants = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        # as where it is installed: bytecode is kept, here in a folder of its own
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        make_world(variants)
        first, _ = seconds(COMMANDS["again"])
        stages = len(list(Path(".efflab/stages").iterdir()))
        taken = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(RUNS + 1)][1:]
        os.chdir("/")
    wall = {name: median(one[name][0] for one in taken) for name in COMMANDS}
    ratio = median(one["plan"][1] / one["torch"][1] for one in taken)
    beyond = [median(one["again"][of] - one["import"][of] for one in taken) for of in (0, 1)]
    print(
        f"{stages} stages: first run {first:.1f} s, again {wall['again']:.2f} s; beyond the import {beyond[0]:.2f} s,"
    )
    print(f"of which {beyond[1]:.2f} s of processor time, which others at work on the machine do not lengthen")
    print(f"efflab plan: {wall['plan']:.2f} s; its processor time over that of import torch: {ratio:.2f}")


if __name__ == "__main__":
    main()
