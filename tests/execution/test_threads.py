"""A stage has the threads that the recipe gives it, however many workers there are and whatever is left to do."""

import json

import torch
from worlds import make_card, make_recipe

from efflab.contracts.executor import Job, Resources
from efflab.execution import worker
from efflab.plan.stage_results import Made
from efflab.records.store import LocalStore
from efflab.run import plan_file, run_file

TRAIN = "f: [{prune_channels: {ratio: 0.5}}, {finetune: {epochs: 2}}]\nc: [{cast: {}}]"
MEASURE = (
    "seeds: [0], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false, "
    "threads: 1"
)


def qualities(study):
    return {one["variant"]: json.dumps(one["quality"], default=str) for one in study["records"]}


def test_workers_and_what_is_left_to_do_change_no_number(in_folder, monkeypatch):
    make_card(in_folder)
    recipe = make_recipe(in_folder, TRAIN, measure=MEASURE)
    alone = run_file(recipe, workers=1, store=LocalStore.open(in_folder / "one"))
    together = run_file(recipe, workers=4, store=LocalStore.open(in_folder / "four"))
    store = LocalStore.open(in_folder / "again")
    run_file(recipe, only=["c"], store=store)
    monkeypatch.setattr("efflab.run.usable_processors", lambda: 8)
    left = run_file(recipe, store=store)
    assert qualities(alone) == qualities(together) == qualities(left)


def test_stages_with_other_threads_are_other_stages(in_folder):
    make_card(in_folder)
    recipe = make_recipe(in_folder, TRAIN, measure=MEASURE)
    one = plan_file(recipe)
    recipe.write_text(recipe.read_text() + "limits: {threads: 3}\n")
    three = plan_file(recipe)
    kinds = {stage.kind for key, stage in one.stages.items() if key in three.stages}
    assert kinds == {"baseline"}  # it trains nothing
    assert {stage.spec.resources.cores for stage in three.stages.values() if stage.kind == "step"} == {3}


def test_a_worker_takes_the_threads_of_its_job(in_folder, monkeypatch, tmp_path):
    make_card(in_folder)
    recipe = make_recipe(in_folder, TRAIN, measure=MEASURE)
    stage = next(stage for stage in plan_file(recipe).stages.values() if stage.kind == "step")
    seen = []

    def execute(spec, needs, folder, report):
        seen.append(torch.get_num_threads())
        return Made("module", None, {}, {})

    monkeypatch.setattr(worker, "execute", execute)
    store = LocalStore(tmp_path / "store")
    before = torch.get_num_threads()
    try:
        for cores in (1, 3):
            spec = stage.spec.model_dump(mode="json")
            worker.do_job(Job(f"s{cores}", "t", spec, (), Resources(cores=cores)), store, lambda *_: None)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 3]
