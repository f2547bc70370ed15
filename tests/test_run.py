"""The whole flow on tiny data with scripted times: resume, failures that stay alone, kill -9, plug-ins from outside."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from worlds import QUICK, efflab, make_card, make_recipe

import efflab as package
from efflab.records.store import LocalStore
from efflab.records.study import load_study
from efflab.run import cached_stages, plan_file

PRUNE = """
p:
  - prune_channels: {ratio: 0.5, round_to: 1}
  - finetune: {epochs: 1.0, batch_size: 64}
"""
BAD = '''
import os, time
from typing import ClassVar, Literal
from efflab import Result, Technique

class Bad(Technique):
    """Does what a technique must not do."""
    takes: ClassVar = "module"
    gives: ClassVar = "module"
    tiny: ClassVar = {}
    how: Literal["crash", "hang", "raise", "nothing", "eat", "exit"] = "raise"

    def apply(self, model, context):
        if self.how == "crash":
            os.kill(os.getpid(), 11)
        if self.how == "hang":
            time.sleep(600)
        if self.how == "exit":
            os._exit(7)
        if self.how == "eat":
            hoard = [bytearray(b"x" * 400_000_000) for _ in range(4)]
            time.sleep(60)
        if self.how == "raise":
            raise ValueError("no way")
        return Result(model)
'''


QUICK_ONE = (
    "seeds: [0], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false, "
    "threads: 1"
)


def stage_times(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / ".efflab" / "stages").glob("*/stage.json")}


def test_a_recipe_runs_to_a_study_and_a_second_run_repeats_nothing(in_folder):
    make_card(in_folder)
    recipe = make_recipe(in_folder, PRUNE)
    study = package.run_recipe(recipe)
    names = {record["variant"] for record in study["records"]}
    assert names == {"tiny", "tiny (again)", "p", "p~random", "p~trained-on"}
    assert all(record["status"] == "ok" for record in study["records"])
    # two seeds, two batch sizes; times belong to the first seed
    timed = [record for record in study["records"] if "latency" in record]
    assert len(timed) == 10
    assert len(study["records"]) == 15
    dense, pruned = (next(r for r in study["records"] if r["variant"] == name) for name in ("tiny", "p"))
    assert pruned["work"]["macs"] < dense["work"]["macs"]
    assert pruned["recovery"]["training_macs"] == 3 * pruned["work"]["macs"] * 512
    before = stage_times(in_folder)
    again = package.run_recipe(recipe)
    assert stage_times(in_folder) == before
    assert again["records"] == study["records"]
    rows = package.rows(again)
    assert {row["variant"] for row in rows} == names


def test_exits_are_counted_and_timed_over_many_inputs(in_folder):
    make_card(in_folder)
    recipe = make_recipe(
        in_folder,
        """
        e: [{add_exits: {epochs: 1.0, batch_size: 64, hidden: 4}}]
        c: {from: e, steps: [{choose_exits: {loss: 0.5}}]}
        """,
        measure=QUICK,
    )
    study = package.run_recipe(recipe)
    assert all(record["status"] == "ok" for record in study["records"])
    dense, still, opened = (
        next(record for record in study["records"] if record["variant"] == name) for name in ("tiny", "e", "c")
    )
    assert still["work"]["macs"] == dense["work"]["macs"]
    assert opened["work"]["macs"] < dense["work"]["macs"]
    groups = opened["work"]["by_input"]
    assert sum(group["share"] for group in groups) == pytest.approx(1)
    assert sum(group["share"] * group["macs"] for group in groups) == pytest.approx(opened["work"]["macs"], abs=1)
    assert "by_input" not in still["work"]
    # 64 validation examples: 64 batches of one, 16 of four
    timed = {record["batch_size"]: record["latency"]["inputs"] for record in study["records"] if "latency" in record}
    assert timed == {1: 64, 4: 16}
    assert all(len(one) % record["latency"]["inputs"] == 0 for record in study["records"] if "latency" in record
               for one in record["latency"]["rounds_ms"])  # fmt: skip


def test_only_force_and_shared_prefixes(in_folder):
    make_card(in_folder)
    recipe = make_recipe(
        in_folder,
        """
        a: [{prune_channels: {ratio: 0.5, round_to: 1}}]
        b: {from: a, steps: [{cast: {}}]}
        """,
        measure=QUICK_ONE,
    )
    plan = plan_file(recipe)
    assert (
        len([stage for stage in plan.stages.values() if getattr(stage.spec, "technique", "") == "prune_channels"]) == 1
    )
    part = package.run_recipe(recipe, only=["a"])
    assert {record["variant"] for record in part["records"]} == {"tiny", "a"}
    first = stage_times(in_folder)
    whole = package.run_recipe(recipe)
    later = stage_times(in_folder)
    again = package.run_recipe(recipe, only=["a"])  # what is finished of other variants stays in the study
    assert again["records"] == whole["records"]
    assert {record["variant"] for record in again["records"]} == {"tiny", "a", "b"}
    assert stage_times(in_folder) == later
    assert all(later[stage] == first[stage] for stage in first if stage in later and first[stage] == later[stage])
    assert len(later) > len(first)
    done = efflab("run", "r.yaml", "--force", "b", cwd=in_folder)
    assert done.returncode == 0, done.stderr
    repeated = {stage for stage, when in stage_times(in_folder).items() if when != later.get(stage)}
    kinds = {
        json.loads((in_folder / ".efflab/stages" / stage / "stage.json").read_text())["about"]["title"]
        for stage in repeated
    }
    assert not any("a:" in kind for kind in kinds)
    assert any("b: cast" in kind for kind in kinds)


def test_a_broken_promise_is_said(in_folder):
    card = make_card(in_folder)
    card.write_text(card.read_text().replace("weights:", "promise: {value: 0.9, tolerance: 0.01}\nweights:"))
    make_recipe(in_folder, "a: [{prune_channels: {ratio: 0.5, round_to: 1}}]", measure=QUICK_ONE)
    done = efflab("run", "r.yaml", cwd=in_folder)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert re.search(r"tiny s0 scores 0\.\d+ on fake; its card promises 0.9000 within 0.0100", warnings[0])


def test_a_card_that_cannot_be_loaded_stops_the_run(in_folder):
    card = make_card(in_folder)
    card.write_text(card.read_text().replace("width: 4", "width: 6"))
    make_recipe(in_folder, "a: [{cast: {}}]", measure=QUICK_ONE)
    done = efflab("run", "r.yaml", cwd=in_folder)
    assert done.returncode == 2
    assert re.search(r"tiny.yaml:5: weights.* does not fit the model: conv1.weight has shape", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_stage_that_fails_in_any_way_is_a_row_with_its_reason(in_folder, monkeypatch):
    make_card(in_folder)
    (in_folder / "plugins" / "techniques").mkdir(parents=True)
    (in_folder / "plugins" / "techniques" / "bad.py").write_text(BAD)
    hows = ["crash", "hang", "raise", "nothing", "eat", "exit"]
    variants = "\n".join(f"{how}: [{{bad: {{how: {how}}}}}]" for how in hows) + "\ngood: [{cast: {}}]"
    make_recipe(in_folder, variants, extra="limits: {stage_s: 20, memory_gb: 1.3}", measure=QUICK_ONE)
    done = efflab("run", "r.yaml", cwd=in_folder, EFFLAB_PLUGINS="plugins")
    assert done.returncode == 1, done.stderr
    study = load_study(in_folder / ".efflab/studies/r/study.json")
    reasons = {record["variant"]: record["reason"] for record in study["records"] if record["status"] == "failed"}
    assert set(reasons) == set(hows)
    assert "SIGSEGV" in reasons["crash"]
    assert "limits.stage_s" in reasons["hang"]
    assert reasons["raise"] == "ValueError: no way"
    assert "changed nothing" in reasons["nothing"]
    assert "memory" in reasons["eat"]
    assert "exit code 7" in reasons["exit"]
    good = [record for record in study["records"] if record["variant"] == "good"]
    assert good[0]["status"] == "ok"
    assert good[0]["latency"]["rounds_ms"]


def test_kill_9_of_the_whole_tree_loses_only_what_was_under_way(in_folder):
    make_card(in_folder)
    make_recipe(in_folder, PRUNE)
    command = [sys.executable, "-m", "efflab.cli.main", "run", "r.yaml"]
    delays = random.Random(7)
    kept: dict[str, int] = {}
    for _ in range(3):
        process = subprocess.Popen(command, cwd=in_folder, start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(delays.uniform(3, 9))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = stage_times(in_folder)
        assert all(now[stage] == when for stage, when in kept.items()), "a finished stage was repeated"
        kept = now
    done = efflab("run", "r.yaml", cwd=in_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(stage_times(in_folder)[stage] == when for stage, when in kept.items())
    plan = plan_file(in_folder / "r.yaml")
    assert cached_stages(plan, LocalStore.open()) == set(plan.stages)
    assert len(load_study(in_folder / ".efflab/studies/r/study.json")["records"]) == 15


def test_plug_ins_of_an_outside_package_and_dropped_in_files_are_listed_and_run(in_folder):
    site, dropped = in_folder / "site", in_folder / "plugins"
    info = site / "outside-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[efflab.techniques]\nhalve = outside:Halve\n"
        "[efflab.backends]\nmychip = outside:Mychip\n"
        "[efflab.models]\nlinear = outside:linear\n"
    )
    (site / "outside.py").write_text(OUTSIDE)
    (dropped / "techniques").mkdir(parents=True)
    (dropped / "techniques" / "negate.py").write_text(DROPPED)
    (in_folder / "baselines").mkdir()
    (in_folder / "make.py").write_text(MAKE_LINEAR)
    environment = {"PYTHONPATH": str(site), "EFFLAB_PLUGINS": str(dropped)}
    subprocess.run([sys.executable, "make.py"], cwd=in_folder, check=True, env={**os.environ, **environment})
    make_recipe(in_folder, "h: [{halve: {}}]\nn: [{negate: {}}]", measure=QUICK_ONE, backends="[mychip]")
    listed = efflab("ls", cwd=in_folder, **environment).stdout
    assert all(name in listed for name in ("halve", "mychip", "linear", "negate"))
    done = efflab("run", "r.yaml", cwd=in_folder, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    records = load_study(in_folder / ".efflab/studies/r/study.json")["records"]
    assert {record["variant"] for record in records} == {"tiny", "h", "n"}
    assert all(record["latency"]["rounds_ms"] for record in records)


OUTSIDE = '''
from typing import ClassVar
from efflab import Backend, Session
from efflab import Result, Technique


def linear(classes=10):
    import torch
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(576, classes))


class Halve(Technique):
    """Halve the weights."""
    takes: ClassVar = "module"
    gives: ClassVar = "module"
    tiny: ClassVar = {}

    def apply(self, model, context):
        model[1].weight.data.mul_(0.5)
        return Result(model)


class Chip(Session):
    def __init__(self, module):
        self.module = module

    def run(self, loaded):
        import torch
        with torch.inference_mode():
            return self.module(torch.from_numpy(loaded[0])).numpy()


class Mychip(Backend):
    """Runs on my chip."""
    takes: ClassVar = "module"

    @classmethod
    def available(cls):
        return None

    def prepare(self, artefact, example, threads):
        return Chip(artefact.module())
'''
DROPPED = '''
from typing import ClassVar
from efflab import Result, Technique


class Negate(Technique):
    """Negate the weights."""
    takes: ClassVar = "module"
    gives: ClassVar = "module"
    tiny: ClassVar = {}

    def apply(self, model, context):
        model[1].weight.data.neg_()
        return Result(model)
'''
MAKE_LINEAR = """
import hashlib, torch, outside
from safetensors.torch import save_file
torch.manual_seed(0)
save_file(outside.linear().state_dict(), "baselines/tiny.safetensors")
digest = hashlib.sha256(open("baselines/tiny.safetensors", "rb").read()).hexdigest()
open("baselines/tiny.yaml", "w").write(f'''
name: tiny
task: {{digits_clutter: {{train: 64, validation: 64, test: 64}}}}
model: {{linear: {{}}}}
weights: [{{file: tiny.safetensors, sha256: {digest}}}]
''')
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card, weights: weights.write_bytes(weights.read_bytes()[:-4] + b"abcd"), "sha256"),
        (lambda card, weights: weights.unlink(), "missing"),
        (lambda card, weights: card.write_text(card.read_text().replace("width: 4", "width: 6")), "has shape"),
        (lambda card, weights: card.write_text(card.read_text().replace("width: 4", "widht: 4")), "cannot be built"),
    ],
)
def test_weights_that_are_not_as_the_card_says(in_folder, change, said):
    from efflab.cards.baseline import load_baseline
    from efflab.foundation.errors import RequestError

    card = make_card(in_folder)
    change(card, in_folder / "baselines" / "tiny-s0.safetensors")
    with pytest.raises(RequestError, match=said) as caught:
        load_baseline(card).module(0)
    assert str(card) in str(caught.value)
