"""Processor time of light commands, as shares of `import torch` in the same run: python benchmarks/cli.py

Each pair runs in turn, so that drift hits both; the medians' ratio is printed. The aim is at most 0.25.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
RUNS = 7
EFFLAB = [sys.executable, "-m", "efflab.cli.main"]
COMMANDS = {"--help": ["--help"], "ls": ["ls"], "plan": ["plan", "recipes/digits.yaml"]}


def processor_s(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    torch = [sys.executable, "-c", "import torch"]
    # as where it is installed: bytecode is kept, here in a folder of its own
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        compare(torch)


def compare(torch: list[str]) -> None:
    for name, words in COMMANDS.items():
        pairs = [(processor_s([*EFFLAB, *words]), processor_s(torch)) for _ in range(RUNS + 1)][1:]
        ours, theirs = (median(column) for column in zip(*pairs, strict=True))
        print(f"efflab {name}: {ours:.2f} s of {theirs:.2f} s for import torch, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
