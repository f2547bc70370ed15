"""Kills of a run lose nothing that was finished, and a training goes on bit by bit. `benchmarks/kills.py` does it at length."""

import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from efflab.contracts.training_section import TrainingSettings
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.training.checkpoint import resumed
from efflab.training.step import make_optimizer
from efflab.training.trainer import fit

KILLS = 6
DRIVE = """
import sys
from efflab.contracts.executor import Resources
from efflab.execution import local_executor
from efflab.execution.outcomes import Outcomes
from efflab.execution.scheduler import drive
from efflab.execution.watcher import Watcher
from efflab.plan.stage_graph import Stage
from efflab.plan.stage_specs import LoadBaseline, TaskRef
from efflab.records.store import LocalStore

local_executor.SERVER = "worker_of_a_test"
store, outcomes = LocalStore.open(), Outcomes()
store.prepare()
with store.lock():
    stages = {}
    for number in range(12):
        spec = LoadBaseline(content={}, seed=number, form="module", task=TaskRef(name="t"), card="c")
        stages[f"s{number}"] = Stage(f"s{number}", "t", () if number < 2 else (f"s{number - 2}",), spec, 1.0)
    for one in list(stages):
        if finished := store.finished(one):
            outcomes.take(stages.pop(one), finished)
    executor = local_executor.LocalExecutor(store.address, 2, 1, 60.0)
    try:
        drive(executor, stages, store, outcomes, Watcher())
    finally:
        executor.close()
sys.exit(0 if len(outcomes.results) == 12 else 1)
"""
WORKER = """
import time
from efflab.foundation.child_server import serve
from efflab.records.store import open_store

def answer(request, report):
    store, one = open_store(request["store"]), request["job"]["stage_id"]
    folder = store.work_folder(one)
    for part in range(10):
        (folder / f"part-{part}").write_text("x" * 1000)
        time.sleep(0.02)
    result = {"form": "module", "batch": None, "work": {}, "cost": {}}
    store.put(one, folder, result, {"kind": "baseline"})
    return {"status": "ok", "result": result}

serve(answer, goes_on=True)
"""


def written(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(".efflab/stages/*/stage.json")}


def test_kills_of_a_driver_lose_no_finished_stage(in_folder, monkeypatch):
    (in_folder / "worker_of_a_test.py").write_text(WORKER)
    (in_folder / "drive.py").write_text(DRIVE)
    draw, kept, kills = random.Random(7), {}, 0
    while True:
        driver = subprocess.Popen([sys.executable, "drive.py"], cwd=in_folder)
        deadline, wanted = time.monotonic() + 60, len(kept) + draw.randint(1, 2)
        while kills < KILLS and len(written(in_folder)) < min(wanted, 11) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.1))
        if kills < KILLS:
            driver.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]))
        code = driver.wait()
        now = written(in_folder)
        assert {stage: now.get(stage) for stage in kept} == kept
        kept, kills = now, kills + 1
        if code == 0:
            break
    assert len(kept) == 12
    assert kills == KILLS + 1


def net(width=16):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(576, width), nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, 10)
    )


def same(one, other):
    return all(torch.equal(mine, other.state_dict()[name]) for name, mine in one.state_dict().items())


TASK = DigitsClutter(train=256, validation=64, test=64)
SETTINGS = TrainingSettings(epochs=4.0, batch_size=64, learning_rate=0.05)


def test_a_training_that_draws_by_chance_goes_on_bit_by_bit(tmp_path):
    whole = net()
    fit(whole, TASK, SETTINGS, 5)
    drawn = torch.rand(1)
    checkpoint, draw = tmp_path / "c.safetensors", random.Random(1)

    def loss_of(left):
        def loss(inputs, outputs, targets):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return TASK.loss(outputs, targets)

        return loss

    for _ in range(KILLS):
        broken = net()
        with pytest.raises(KeyboardInterrupt):
            fit(broken, TASK, SETTINGS, 5, loss_of([draw.randint(0, 5)]), checkpoint)
        if checkpoint.exists() and draw.random() < 0.5:
            break
    again = net()
    fit(again, TASK, SETTINGS, 5, checkpoint=checkpoint)
    assert same(whole, again)
    assert torch.equal(torch.rand(1), drawn)  # as is what comes after it


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_checkpoint_that_cannot_be_read_is_none(content, tmp_path):
    path, module = tmp_path / "c.safetensors", net()
    path.write_bytes(content)
    assert resumed(path, module, make_optimizer(module, SETTINGS)) == (0, 0.0)


def test_a_checkpoint_of_another_model_is_none(tmp_path):
    path, other = tmp_path / "c.safetensors", net(width=8)
    fit(other, TASK, SETTINGS, 5, checkpoint=path)
    module = net()
    assert resumed(path, module, make_optimizer(module, SETTINGS)) == (0, 0.0)
    assert same(module, net())
