"""A worker needs a job and the address of a store, and shares no folder with the driver."""

import copy
import json

import pytest
import torch
from far_store import FarExecutor, serve_store
from safetensors.torch import save_file
from worlds import TINY_TASK, make_card, make_recipe

from efflab.foundation.files import file_digest
from efflab.records.store import LocalStore
from efflab.run import run_file

MEASURE = (
    "seeds: [0], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false, "
    "threads: 1"
)
VARIANTS = """
p: [{prune_channels: {ratio: 0.5, round_to: 1}}, {finetune: {epochs: 1.0, batch_size: 64}}]
d: [{prune_channels: {ratio: 0.5, round_to: 1}}, {distill: {epochs: 1.0, batch_size: 64, teacher: [teacher, baseline]}}]
w: {start: teacher, steps: [{prune_channels: {ratio: 0.3, round_to: 1}}]}
"""
NET = """
from efflab.models.resnet_cifar import resnet_cifar

def build(width):
    return resnet_cifar(width, 1, 1)
"""


def make_world(folder):
    """A card of ours, and one whose network is a Python file of the user, which is teacher and start."""
    make_card(folder)
    cards = folder / "baselines"
    (cards / "net.py").write_text(NET)
    from efflab.models.resnet_cifar import resnet_cifar

    torch.manual_seed(5)
    save_file(resnet_cifar(6, 1, 1).state_dict(), str(cards / "teacher.safetensors"))
    digest = file_digest(cards / "teacher.safetensors")
    (cards / "teacher.yaml").write_text(
        f"name: teacher\ntask: {TINY_TASK}\npython: {{file: net.py, function: build, settings: {{width: 6}}}}\n"
        f"weights: [{{file: teacher.safetensors, sha256: {digest}}}]\n"
    )
    return make_recipe(folder, VARIANTS, measure=MEASURE, backends="[fake, onnxruntime]")


def without_times(study):
    """Return the records without what a clock told."""
    records = copy.deepcopy(study["records"])
    for record in records:
        record["recovery"] = record["recovery"]["training_macs"]  # the others are seconds, and seconds times a rate
        timed = record.pop("latency")
        record["latency"] = {name: timed[name] for name in ("group", "threads")}
    return records


@pytest.fixture
def far(in_folder, tmp_path_factory):
    store = LocalStore.open(in_folder / "driver-store")
    store.prepare()
    address, end = serve_store(store)
    executor = FarExecutor(address, tmp_path_factory.mktemp("elsewhere"), in_folder)
    yield store, executor
    executor.close()
    end()


def test_a_recipe_runs_on_a_worker_that_shares_no_folder(in_folder, far):
    recipe = make_world(in_folder)
    store, executor = far
    study = run_file(recipe, store=store, executor=executor)
    assert {record["status"] for record in study["records"]} == {"ok"}, study["records"]
    assert {(record["variant"], record["backend"]) for record in study["records"]} >= {
        (variant, backend) for variant in ("tiny", "p", "d", "w") for backend in ("fake", "onnxruntime")
    }
    told = json.dumps([job.data() for job in executor.jobs])
    assert str(in_folder) not in told  # no path travels
    assert {job.spec["kind"] for job in executor.jobs} == {"step", "quality", "latency"}
    assert [job.resources.alone for job in executor.jobs if job.spec["kind"] == "latency"] == [True, True]
    here = run_file(recipe, store=LocalStore.open(in_folder / "other-store"), workers=2)
    assert without_times(study) == without_times(here)
    assert study["machines"].keys() == here["machines"].keys()
    again = run_file(recipe, store=store)
    assert again["records"] == study["records"]
