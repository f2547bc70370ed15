"""Makes small worlds to run recipes in: a card with fresh weights on tiny data, and recipes on the fake backend."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import torch
from safetensors.torch import save_file

from efflab.foundation.files import file_digest
from efflab.models.resnet_cifar import resnet_cifar

TINY_TASK = "{digits_clutter: {train: 512, validation: 64, test: 200}}"
QUICK = "seeds: [0, 1], batch_sizes: [1, 4], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5"


def make_card(folder: Path, name: str = "tiny", width: int = 4, family: str | None = None) -> Path:
    """Write a card with untrained weights for two seeds; what is tested is the flow, not the score."""
    cards = folder / "baselines"
    cards.mkdir(exist_ok=True)
    lines = [
        f"name: {name}",
        f"task: {TINY_TASK}",
        f"model: {{resnet_cifar: {{width: {width}, blocks: 1, channels: 1}}}}",
    ]
    lines += [f"family: {family}"] if family else []
    lines += ["weights:"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        path = cards / f"{name}-s{seed}.safetensors"
        save_file(resnet_cifar(width, 1, 1).state_dict(), str(path))
        lines.append(f"- {{seed: {seed}, file: {path.name}, sha256: {file_digest(path)}, quality: 0.1}}")
    card = cards / f"{name}.yaml"
    card.write_text("\n".join(lines) + "\n")
    return card


def make_recipe(
    folder: Path, variants: str, name: str = "r", extra: str = "", measure: str = QUICK, backends: str = "[fake]"
) -> Path:
    """Write a recipe on the card `tiny`."""
    path = folder / f"{name}.yaml"
    body = textwrap.indent(textwrap.dedent(variants).strip(), "  ")
    path.write_text(
        f"name: {name}\nbaseline: tiny\nvariants:\n{body}\nmeasure: {{backends: {backends}, {measure}}}\n{extra}\n"
    )
    return path


def efflab(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "efflab.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
