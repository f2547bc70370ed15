"""Workers that die, lie or grow: each is one failed row at most, and never the end of a run."""

import os
import signal
import time

import pytest
from servers import write_server

from efflab.contracts.executor import Done, Job, Resources
from efflab.execution import local_executor
from efflab.execution.local_executor import LocalExecutor


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(local_executor, "SERVER", write_server(tmp_path, monkeypatch))
    made = []

    def executor(stage_s=60.0, memory_gb=None):
        made.append(LocalExecutor("store", 2, 1, stage_s, memory_gb))
        return made[-1]

    yield executor
    for one in made:
        one.close()


def job(do, alone=False, **spec):
    return Job(do, do, {"do": do, **spec}, (), Resources(alone=alone))


def done(executor, *jobs):
    """Run jobs to their end, one after the other, and return what became of each."""
    found = []
    for one in jobs:
        executor.submit(one)
        while executor.busy:
            found += [event for event in executor.wait() if isinstance(event, Done)]
    return found


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("list", "its process gave an answer that cannot be read"),
        ("other", "its process gave an answer that cannot be read"),
        ("noise", "something else than an answer was written where it answers"),
        ("surrogates", "ValueError: half a \\udc80 character"),
        ("exit", "what it runs asked its process to end (SystemExit: 3)"),
        ("die in words", "ended with exit code 5 while at work on it: my own words"),
    ],
)
def test_a_bad_answer_is_a_failed_row_and_the_next_job_is_done(do, reason, start):
    first, second = done(start(), job(do), job("answer"))
    assert (first.status, first.reason) == ("failed", reason)
    assert (second.stage_id, second.status) == ("answer", "ok")


def test_a_worker_that_dies_idle_is_replaced_without_a_word(start):
    executor = start()
    assert [one.status for one in done(executor, job("answer"))] == ["ok"]
    os.kill(executor.idle[0]._process.pid, signal.SIGKILL)
    while not executor.idle[0].ended():
        time.sleep(0.01)
    assert [one.status for one in done(executor, job("say"), job("leave"))] == ["ok", "ok"]
    # it dies at some moment of the next job, which is none of that job's doing
    hung = job("answer")
    time.sleep(0.25)
    assert [one.status for one in done(executor, hung)] == ["ok"]


def test_a_job_that_kills_its_process_is_tried_in_a_fresh_one_and_then_fails(start, tmp_path):
    executor = start()
    found = done(executor, job("say"), job("die in words"))
    assert found[1].reason == "ended with exit code 5 while at work on it: my own words"
    assert not executor.idle


def test_a_limit_of_memory_counts_what_a_worker_started(start):
    assert done(start(memory_gb=0.25), job("eat"))[0].reason == "out of memory: more than 0.25 GB (limits.memory_gb)"


@pytest.mark.parametrize("do", ["hang", "stop"])
def test_a_worker_that_hangs_or_is_stopped_ends_at_its_limit(do, start):
    assert done(start(stage_s=1.0), job(do))[0].reason == "stopped after 1 s (limits.stage_s)"


def test_a_job_that_runs_alone_may_not_be_silent_for_ever(start, monkeypatch):
    from efflab.profiling import pace

    monkeypatch.setattr(pace, "ANSWER_TIMEOUT_S", 0.2)
    budget = {"min_seconds": 0.001, "max_seconds": 0.01, "prepare_timeout_s": 0.2}
    found = done(start(stage_s=1.0), job("stop", alone=True, budget=budget))
    assert found[0].reason == "said nothing for 1.6 s (limits.stage_s and the budget of its timing)"
