"""What kills of a run lose: python benchmarks/kills.py [kills, default 50] [simulated processors, default 1 2 4]

Runs a recipe of real, tiny trainings (dropout, gradual pruning, distillation, two seeds) once as a reference, and then again
and again on fresh stores, each run killed at a seeded moment in a seeded way, until there were so many kills: the driver by
SIGKILL, SIGTERM, SIGHUP or Ctrl-C, or one of its workers by SIGKILL. A killed run is started again, until its recipe is done.

For each number of processors it prints the kills, finished recipes, stages that were lost (finished before a kill, and made
again or gone after it), processes that lived on after their driver, and how many qualities and models differ from those of
the reference. All of these counts should be 0, and the two of the kills and the recipes should not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

WAYS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, None)  # None: SIGKILL of a worker
PATIENCE_S = 10.0  # for processes to end after their driver
WORKER = "efflab.execution.stage_server"
DRIVE = """
import sys
count, sys.argv[0] = int(sys.argv[1]), "efflab"
import efflab.run
efflab.run.processors = lambda: count
from efflab.cli.main import main
sys.exit(main(["run", "kills.yaml"]))
"""
NET = """
from torch import nn
from efflab.models.resnet_cifar import resnet_cifar

def build(width):
    net = resnet_cifar(width, 1, 1)
    return nn.Sequential(net, nn.Dropout(0.1))
"""
RECIPE = """
name: kills
baseline: small
variants:
  tuned: [{prune_channels: {ratio: 0.5, round_to: 1}}, {finetune: {epochs: 4, batch_size: 64}}]
  gradual: [{prune_gradually: {sparsity: 0.5, rounds: 2, epochs: 4, batch_size: 64}}]
  taught: [{prune_channels: {ratio: 0.5, round_to: 1}}, {distill: {epochs: 3, batch_size: 64}}]
measure: {backends: [fake], seeds: [0, 1], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.002,
  rounds: 5, controls: false, threads: 1}
"""


def make_world() -> None:
    """Write a card, its weights and the recipe into the working directory."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    from efflab.models.resnet_cifar import resnet_cifar

    Path("baselines").mkdir()
    Path("baselines/net.py").write_text(NET)
    lines = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights = Path(f"baselines/small-{seed}.safetensors")
        save_file(nn.Sequential(resnet_cifar(4, 1, 1)).state_dict(), str(weights))
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        lines.append(f"- {{seed: {seed}, file: {weights.name}, sha256: {digest}}}")
    Path("baselines/small.yaml").write_text(
        "name: small\ntask: {digits_clutter: {train: 512, validation: 64, test: 100}}\n"
        "python: {file: net.py, function: build, settings: {width: 4}}\nweights:\n" + "\n".join(lines) + "\n"
    )
    Path("kills.yaml").write_text(RECIPE)


def start(count: int) -> subprocess.Popen[bytes]:
    """Start a run with so many simulated processors."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVE, str(count)], stdout=subprocess.DEVNULL, stderr=Path("errors.txt").open("ab")
    )


def workers() -> list[psutil.Process]:
    """Return the worker processes of runs in this folder, their guards included."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if one.status() != psutil.STATUS_ZOMBIE and one.cwd() == os.getcwd() and WORKER in one.cmdline():
                found.append(one)
    return found


def finished() -> dict[str, int]:
    """Return when each finished stage was written, timed groups aside: those are timed again where a member was missing."""
    times = {}
    for path in Path(".efflab/stages").glob("*/stage.json"):
        if json.loads(path.read_text())["about"]["kind"] != "latency":
            times[path.parent.name] = path.stat().st_mtime_ns
    return times


def made() -> dict[str, str]:
    """Return what the study says of each row's quality, example by example, and the digests of the models."""
    study = json.loads(Path(".efflab/studies/kills/study.json").read_text())
    found = {f"quality of {r['variant']} s{r['seed']}": json.dumps(r.get("quality")) for r in study["records"]}
    for path in Path(".efflab/stages").glob("*/stage.json"):
        stored = json.loads(path.read_text())
        if stored["about"]["kind"] == "step":
            found[f"model of {path.parent.name}"] = json.dumps(stored["files"], sort_keys=True)
    return found


def kill(run: subprocess.Popen[bytes], way: signal.Signals | None) -> int:
    """Kill a run in one way; return how many of its processes live on without it."""
    if way is None:
        with contextlib.suppress(IndexError, psutil.Error):
            max(workers(), key=lambda one: one.cpu_times().user).kill()
        run.wait()
        return 0
    run.send_signal(way)
    run.wait()
    deadline = time.monotonic() + PATIENCE_S
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(workers())


def trial(count: int, kills: int, draw: random.Random) -> str:
    """Kill runs with so many simulated processors, and say what was lost."""
    shutil.rmtree(".efflab", ignore_errors=True)
    began = time.monotonic()
    if start(count).wait() != 0:
        return "the reference fails: " + Path("errors.txt").read_text()[-500:]
    whole_s, reference = time.monotonic() - began, made()
    done = whole = lost = orphans = differ = 0
    while done < kills:
        shutil.rmtree(".efflab", ignore_errors=True)
        kept: dict[str, int] = {}
        while True:
            run, killed = start(count), False
            try:
                run.wait(draw.uniform(0.05, 0.5) * whole_s if done < kills else None)
            except subprocess.TimeoutExpired:
                done, killed = done + 1, True
                orphans += kill(run, draw.choice(WAYS))
            now = finished()
            lost += sum(now.get(stage) != when for stage, when in kept.items())
            kept = now
            if run.returncode == 0 and not killed:
                break
        whole, found = whole + 1, made()
        differ += sum(found.get(name) != value for name, value in reference.items()) + len(
            found.keys() ^ reference.keys()
        )
    counts = f"{lost} lost stages, {orphans} processes lived on, {differ} qualities or models differ"
    return f"{done} kills over {whole} recipes of {len(kept)} stages that take {whole_s:.0f} s: {counts}"


def main() -> None:
    """Print a line for each number of processors."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_world()
        for count in map(int, sys.argv[2:] or ("1", "2", "4")):
            told = trial(count, kills, random.Random(count))
            print(f"{count} simulated processor{'s' if count > 1 else ''}: {told}", flush=True)
        tracebacks = Path("errors.txt").read_text().count("Traceback")
        print(f"{tracebacks} tracebacks in what the drivers printed")
        os.chdir("/")


if __name__ == "__main__":
    main()
