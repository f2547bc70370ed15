"""What runs when, and what becomes of it: with an executor that answers from a script."""

import pytest

from efflab.contracts.executor import Done, Resources
from efflab.execution.local_executor import LocalExecutor
from efflab.execution.outcomes import Outcomes
from efflab.execution.scheduler import UNFOUNDED, drive
from efflab.execution.two_places import TwoPlaces
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError
from efflab.plan.stage_graph import Stage
from efflab.plan.stage_results import Timed
from efflab.plan.stage_specs import ApplyTechnique, LoadBaseline, TaskRef, TimeInTurn
from efflab.records.store import LocalStore

TASK = TaskRef(name="t")
MADE = {"form": "module", "batch": None, "work": {}, "cost": {}}
LOAD = LoadBaseline(content={}, seed=0, form="module", task=TASK, card="card.yaml")
CAST = ApplyTechnique(technique="cast", settings={}, version=1, seed=0, task=TASK)
GROUP = TimeInTurn(
    backend="fake", settings={}, batch_size=1, budget={}, machine="m", threads=2, task=TASK,
    members={"dense": "load", "c": "step"},
)  # fmt: skip


class Scripted:
    """Takes several jobs and ends them in order; `endings` says how, by stage."""

    def __init__(self, endings, store=None):
        self.endings, self.jobs, self.running, self.store = endings, [], [], store

    def free(self, wanted):
        return 0 if wanted.alone and self.running else 4 - len(self.running)

    def submit(self, job):
        self.jobs.append(job)
        self.running.append(job)

    def wait(self):
        stage_id = self.running.pop(0).stage_id
        ending = self.endings.get(stage_id, {"result": MADE})
        if self.store and "status" not in ending:
            self.store.put(stage_id, self.store.work_folder(stage_id), ending["result"], {})
        return [Done(stage_id, **{"status": "ok", "machine": {"cpu": f"of {stage_id}"}, **ending})]

    def close(self):
        pass


def stages():
    made = [("load", (), LOAD), ("group", ("load", "step"), GROUP), ("step", ("load", "load"), CAST)]
    return {one: Stage(one, f"title of {one}", needs, spec, 1.0) for one, needs, spec in made}


def run(folder, endings, outcomes=None):
    """Drive the three stages; return what was submitted, the outcomes, and what the watcher was told at the ends."""
    store = LocalStore(folder)
    executor, outcomes, ends = Scripted(endings, store), outcomes or Outcomes(), []
    watcher = Watcher(end=lambda stage, status, reason, seconds: ends.append((stage.id, status, reason)))
    drive(executor, {k: v for k, v in stages().items() if v.kind == "latency" or k not in outcomes.results},
          store, outcomes, watcher)  # fmt: skip
    return executor.jobs, outcomes, ends


TIMED = {"result": {"timings": {"dense": {}, "c": {}}, "reasons": {}}}


def test_a_group_is_timed_last_and_alone(tmp_path):
    jobs, outcomes, ends = run(tmp_path, {"group": TIMED})
    assert [job.stage_id for job in jobs] == ["load", "step", "group"]
    assert [job.needs for job in jobs] == [(), ("load", "load"), ("load", "step")]
    assert [job.resources for job in jobs] == [Resources(home=True), Resources(), Resources(cores=2, alone=True)]
    assert {status for _, status, _ in ends} == {"ok"}
    assert outcomes.machines["group"] == {"cpu": "of group"}


def test_members_without_a_model_are_left_out_of_their_group(tmp_path):
    jobs, outcomes, ends = run(tmp_path, {"step": {"status": "failed", "reason": "no way"}, "group": TIMED})
    assert jobs[-1].spec["members"] == {"dense": "load"}
    assert jobs[-1].needs == ("load",)
    assert outcomes.failures == {"step": ("failed", "no way")}
    jobs, outcomes, ends = run(tmp_path, {"load": {"status": "unavailable", "reason": "not here"}})
    assert [job.stage_id for job in jobs] == ["load"]
    assert ends[1:] == [("step", "skipped", "an earlier stage unavailable")]
    assert outcomes.failures["step"] == ("unavailable", "not here")


def test_a_finished_group_is_measured_again_only_for_what_it_lacks(tmp_path):
    def known(timings, reasons):
        outcomes = run(tmp_path, {"group": TIMED})[1]
        outcomes.results["group"] = Timed(timings, reasons)
        return run(tmp_path, {"group": TIMED}, outcomes)[0]

    assert not known({"dense": {}, "c": {}}, {})
    assert not known({"dense": {}}, {"c": ("unavailable", "it takes other batches")})
    assert [job.stage_id for job in known({"dense": {}}, {"c": ("failed", "killed")})] == ["group"]
    assert [job.stage_id for job in known({"dense": {}}, {})] == ["group"]


def test_what_fails_in_a_group_is_told_together(tmp_path):
    reasons = {"dense": ["failed", "killed"], "c": ["failed", "killed"]}
    _, outcomes, ends = run(tmp_path, {"group": {"result": {"timings": {}, "reasons": reasons}}})
    assert ends[-1] == ("group", "failed", "dense, c: killed")
    assert outcomes.timed("group").reasons["c"] == ("failed", "killed")


def test_a_crash_of_a_timing_is_a_failure_and_a_refusal_the_end_of_the_run(tmp_path):
    _, outcomes, ends = run(tmp_path, {"group": {"status": "failed", "reason": "killed by SIGSEGV"}})
    assert outcomes.failures == {"group": ("failed", "killed by SIGSEGV")}
    assert ends[-1] == ("group", "failed", "killed by SIGSEGV")
    for stage in ("group", "load"):
        with pytest.raises(RequestError, match="the split is empty"):
            run(tmp_path, {stage: {"status": "failed", "reason": "the split is empty", "refused": True}})


def test_an_executor_of_this_machine_takes_one_job_where_it_is_to_be_alone():
    executor, alone = LocalExecutor("store", 3, 1, 60.0), Resources(alone=True)
    assert (executor.free(), executor.free(alone)) == (3, 1)
    executor.busy = {"a": executor_busy(False)}
    assert (executor.free(), executor.free(alone)) == (2, 0)
    executor.busy = {"a": executor_busy(True)}
    assert (executor.free(), executor.free(alone)) == (0, 0)


def executor_busy(alone):
    from efflab.execution.local_executor import _Busy

    return _Busy(None, None, 0.0, alone, fresh=True)


def test_what_reads_files_of_the_user_runs_at_home(tmp_path):
    store = LocalStore(tmp_path)
    home, away = Scripted({}, store), Scripted({"group": TIMED}, store)
    drive(TwoPlaces(home, away), stages(), store, Outcomes(), Watcher())
    assert [job.stage_id for job in home.jobs] == ["load"]
    assert [job.stage_id for job in away.jobs] == ["step", "group"]


@pytest.mark.parametrize("result", [MADE, {}, {"form": 3}, {"timings": 1, "reasons": 2}])
def test_a_stage_that_is_said_to_be_finished_and_is_not_is_a_failed_row(result, tmp_path):
    _, outcomes, ends = run(tmp_path, {"step": {"status": "ok", "result": result}, "group": TIMED})
    assert outcomes.failures == {"step": ("failed", UNFOUNDED)}
    assert ends[1] == ("step", "failed", UNFOUNDED)
    assert ends[-1][1] == "ok"


def test_a_group_whose_members_lack_times_counts_as_one_that_is_to_be_done():
    outcomes, stage = Outcomes(), stages()["group"]
    assert outcomes.incomplete(stage)
    outcomes.results["group"] = Timed({"dense": {}}, {"c": ("failed", "killed")})
    assert outcomes.incomplete(stage)
    outcomes.results["group"] = Timed({"dense": {}}, {"c": ("unavailable", "it takes other batches")})
    assert not outcomes.incomplete(stage)
    assert not outcomes.incomplete(stages()["load"])
