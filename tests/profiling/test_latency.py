import dataclasses
import json
import os
import signal
import time
from itertools import groupby

import numpy as np
import psutil
import pytest
from hypothesis import given, strategies
from pydantic import ValidationError

from efflab.profiling import latency, pace
from efflab.profiling.latency import Budget, Failure, LatencyJob, measure_group
from efflab.profiling.pace import calls_a_block, enough
from efflab.profiling.session_server import overhead_ns, throughput, timed_calls, warm_up

BACKEND = '''
import os, signal, sys, time
from efflab import Backend, Session
from efflab.foundation.errors import RequestError, Unavailable

HELD = []


class Scripted(Backend):
    """Takes the times of `script` in turn; notes each call in `log`; `fault` says how it goes wrong."""

    takes = "module"
    label: str
    script_ms: list[float]
    log: str
    fault: str = ""

    @classmethod
    def available(cls):
        return None

    def prepare(self, artefact, example, threads):
        if self.fault == "print":
            print('{"samples_ns": [1]}', flush=True)
            os.write(1, b"garbage\\n")
        elif self.fault == "raise":
            raise ValueError("cannot\\ncompile this")
        elif self.fault == "refuse":
            raise RequestError("the artefact has no weights")
        elif self.fault == "missing":
            raise Unavailable("not installed; pip install it")
        elif self.fault == "hang":
            time.sleep(1000)
        elif self.fault == "exit":
            print("licence server not found", file=sys.stderr, flush=True)
            os._exit(7)
        elif self.fault == "second":
            if os.path.exists(self.log + "-was-here"):
                raise ValueError("the second start fails")
            open(self.log + "-was-here", "w").close()
        elif self.fault == "memory":
            HELD.append(bytearray(b"x") * (50 << 20))
        pinned = os.environ["OMP_NUM_THREADS"]
        if pinned != str(threads) or len(example) != 2:
            raise ValueError((pinned, threads, len(example)))
        return ScriptedSession(self)


class ScriptedSession(Session):
    def __init__(self, backend):
        self.backend, self.calls, self.now, self.pending = backend, 0, 0, 0
        self.clock = lambda: self.now
        self.log = os.open(backend.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def run(self, loaded):
        if self.backend.fault == "segv" and self.calls == 30:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.backend.fault == "kill" and self.calls == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        script = self.backend.script_ms
        place = int(loaded[0][0, 0]) if self.backend.fault == "by input" else self.calls
        self.pending += round(script[place % len(script)] * 1e6)
        self.calls += 1
        os.write(self.log, self.backend.label.encode())
        return loaded

    def wait(self):  # the time passes here: a harness that does not wait measures nothing
        self.now, self.pending = self.now + self.pending, 0
'''


@pytest.fixture
def job(tmp_path, monkeypatch):
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "scripted.py").write_text(BACKEND)
    (tmp_path / "artefact").mkdir()
    (tmp_path / "artefact" / "artefact.json").write_text(json.dumps({"schema": 1, "form": "module"}))
    np.savez(tmp_path / "batch.npz", np.zeros((4, 3), np.float32), np.zeros((4, 1), np.int64))
    monkeypatch.setenv("EFFLAB_PLUGINS", str(tmp_path))

    def make(label, script_ms=(1.0,), fault=""):
        settings = {"label": label, "script_ms": [*script_ms], "log": str(tmp_path / "log"), "fault": fault}
        return LatencyJob(label, tmp_path / "artefact", "scripted", settings, tmp_path / "batch.npz")

    make.log = tmp_path / "log"
    return make


SHORT = Budget(min_runs=12, min_seconds=0.001, max_seconds=0.1, rounds=4, processes=1, prepare_timeout_s=60)


def test_a_group_is_interleaved_and_its_rounds_stay_level(job):
    told = []
    jobs = [job("A"), job("B", [1.0, 3.0]), job("C", [2.0])]
    timings = measure_group(jobs, SHORT, 1, lambda *progress: told.append(progress))

    a, b, c = (timings[label]["rounds_ms"] for label in "ABC")
    # B never gets steady: its rounds go on until 100 ms are spent, and the others keep up
    rounds = len(b)
    assert 95 <= sum(map(sum, b)) <= 110
    assert all(one in ([1.0, 3.0, 1.0], [3.0, 1.0, 3.0]) for one in b)
    assert a == [[1.0] * 3] * 4 + [[1.0]] * (rounds - 4)
    assert c == [[2.0] * 3] * 4 + [[2.0]] * (rounds - 4)
    assert told[:3] == [(0, 4, f"prepared {number} of 3") for number in (1, 2, 3)]
    assert told[3:6] == [(0, 4, f"warmed up {number} of 3") for number in (1, 2, 3)]
    assert [one[:2] for one in told[6:10]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1] == (4, 4, "throughput")

    runs = [(label, len(list(group))) for label, group in groupby(job.log.read_text())]
    blocks = runs[3:-3]  # after warm-up, before the pass of throughput
    assert [label for label, _ in blocks] == ["A", "B", "C"] * rounds
    assert [count for _, count in blocks[:3]] == [4, 4, 4]  # an untimed call, then three
    assert [count for _, count in blocks[-3:]] == [2, 4, 2]


def over_batches(job, tmp_path, batches, **settings):
    """A job of one-example batches whose first number says which batch it is."""
    which = np.arange(batches, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    rows = len(which) // batches
    each = [(which[at : at + rows], np.zeros((1, 1), np.int64)) for at in range(0, len(which), rows)]
    np.savez(tmp_path / "batches.npz", *(array for pair in each for array in pair))
    return dataclasses.replace(job(**settings), inputs=tmp_path / "batches.npz", batches=batches)


def test_calls_go_over_the_batches_in_whole_turns(job, tmp_path):
    jobs = [
        over_batches(job, tmp_path, 5, label="A", script_ms=[1, 1, 1, 1, 6], fault="by input"),
        over_batches(job, tmp_path, 5, label="B", script_ms=[2.0]),
    ]
    timings = measure_group(jobs, SHORT, 1)
    a, b = (timings[label] for label in "AB")
    # times swing by 5 ms, the means of whole turns do not: three rounds are enough
    assert a["rounds_ms"] == [[1.0, 1.0, 1.0, 1.0, 6.0]] * 3
    assert b["rounds_ms"] == [[2.0] * 5] * 3
    assert a["inputs"] == b["inputs"] == 5
    assert a["warmup_runs"] % 5 == 1  # a first call, then whole turns
    assert a["throughput_per_s"] == pytest.approx(5 / 10e-3)


def test_a_turn_is_not_cut_short(job):
    session = Clocked([5, 7, 9])
    assert timed_calls(session, [1, 2, 3], 6, limit_ns=4) == [5, 7, 9]
    assert timed_calls(session, [1], 6, limit_ns=4) == [9]


def test_fewer_of_larger_batches():
    assert [pace.batches_for(size) for size in (1, 4, 8, 64, 512)] == [64, 64, 32, 4, 4]


def test_the_record_of_a_session(job):
    timing = measure_group([job("A", [2.0])], SHORT, 1)["A"]
    assert set(timing) == latency.Timing.__required_keys__
    assert timing["throughput_per_s"] == pytest.approx(4 / 2e-3)
    assert timing["overhead_us"] == 0.0  # a scripted clock
    assert timing["warmup_runs"] == 1 + 3 + 10
    assert timing["energy_method"].startswith(("estimate: ", "measured: "))
    assert timing["prepare_s"] > 0
    assert timing["threads"] == 1
    json.dumps(timing)


def test_memory_is_what_the_session_holds_above_an_empty_process(job):
    timing = measure_group([job("A", fault="memory")], SHORT, 1)["A"]
    assert 50 << 20 <= timing["peak_memory_bytes"] < 200 << 20


def test_failures_have_reasons_and_the_others_go_on(job):
    faults = ["", "segv", "kill", "raise", "refuse", "missing", "exit", "print"]
    results = measure_group([job(fault or "fine", fault=fault) for fault in faults], SHORT, 1)
    assert results["fine"]["rounds_ms"] == [[1.0] * 3] * 4
    assert results["print"]["rounds_ms"] == [[1.0] * 3] * 4
    assert results["segv"] == "killed by SIGSEGV while being timed"
    assert results["kill"] == "killed by SIGKILL (out of memory?) while being timed"
    assert results["raise"] == "ValueError: cannot compile this"
    assert results["refuse"] == "the artefact has no weights"
    assert results["missing"] == "not installed; pip install it"
    assert results["exit"] == "ended with exit code 7 while preparing: licence server not found"
    statuses = {label: found.status for label, found in results.items() if isinstance(found, Failure)}
    assert statuses.pop("missing") == "unavailable"
    assert set(statuses.values()) == {"failed"}


def test_a_session_that_hangs_is_ended(job):
    budget = Budget(**{**SHORT.model_dump(), "prepare_timeout_s": 1.5})
    assert measure_group([job("A", fault="hang")], budget, 1)["A"] == (
        "gave no answer within 1.5 s while preparing; ended"
    )


def test_no_process_outlives_the_measurement(job, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    started = []
    real = latency.Child
    monkeypatch.setattr(latency, "Child", lambda *words: started.append(real(*words)) or started[-1])
    with pytest.raises(KeyboardInterrupt):
        measure_group([job("A"), job("B")], SHORT, 1, interrupt)
    assert [process._process.exit_code() for process in started] == [-signal.SIGKILL] * 2
    assert not [one for one in psutil.process_iter() if one.pid in {process.pid for process in started}]


def test_a_worker_dies_with_the_measuring_process(job):
    child = os.fork()
    if child == 0:
        try:
            measure_group([job("A", fault="hang")], SHORT, 1)
        finally:
            os._exit(0)
    children = f"/proc/{child}/task/{child}/children"
    if not os.path.exists(children):
        pytest.skip("needs /proc/<pid>/task/<tid>/children")
    deadline = time.monotonic() + 20
    workers: list[str] = []
    while not workers and time.monotonic() < deadline:
        time.sleep(0.05)
        with open(children) as file:
            workers = file.read().split()
    time.sleep(1.0)  # the worker asks to die with its parent first of all
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while os.path.exists(f"/proc/{workers[0]}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{workers[0]}")


def test_labels_must_be_unique(job):
    with pytest.raises(ValueError, match="unique"):
        measure_group([job("A"), job("A")], SHORT, 1)


@pytest.mark.parametrize("wrong", [{"min_runs": 0}, {"rounds": 1}, {"max_seconds": 0.1}, {"min_seconds": -1.0}])
def test_budgets_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Budget(**wrong)


@given(strategies.floats(1e-7, 100), strategies.integers(1, 2000), strategies.integers(3, 40))
def test_blocks_meet_the_least_runs_and_seconds_within_the_budget(call_s, min_runs, rounds):
    budget = Budget(min_runs=min_runs, rounds=rounds, processes=1)
    calls = calls_a_block(call_s, budget.share())
    assert calls >= 1
    seconds = calls * rounds * call_s
    assert calls == 1 or seconds <= budget.max_seconds * 1.001
    if calls > 1 and seconds < budget.max_seconds * 0.5:  # neither cut short by the budget nor by the most samples
        assert calls * rounds >= min_runs
        assert seconds >= budget.min_seconds * 0.6 or calls * rounds >= pace.MOST_SAMPLES - rounds


def test_when_to_stop_by_hand():
    share = Budget(min_runs=4, min_seconds=0.01, max_seconds=0.1, processes=1).share()
    late = pace.WALL_S * 0.1
    steady, swinging = [10.0, 10.1, 10.0, 10.1], [10.0, 20.0, 10.0, 20.0]
    assert enough(steady, 3, share)
    assert not enough(steady, 2, share)  # fewer rounds than any interval needs
    assert not enough(steady[:3], 3, share)
    assert not enough(swinging, 3, share)
    assert enough(swinging * 2, 3, share)  # 120 ms: the budget is spent
    assert enough(swinging, 3, share, wall_s=late)  # so it is by the driver's clock
    assert not enough([1.0] * 4, 3, share)  # 4 ms only
    assert enough([0.0001, 0.0002] * 5000, 3, share)  # the most samples


def test_a_block_follows_what_the_calls_take():
    share = Budget(min_runs=20, min_seconds=0.4, max_seconds=4.0, rounds=4, processes=1).share()
    assert calls_a_block(0.05, share) == 5  # a cold warm-up: the least runs
    assert calls_a_block(0.001, share, rounds=1, runs=5, seconds=0.005) == 132  # 395 ms over three rounds
    assert calls_a_block(0.001, share, rounds=3, runs=300, seconds=0.39) == 10  # what is left
    assert calls_a_block(0.001, share, rounds=4, runs=400, seconds=0.4) == 100  # beyond the plan


def test_the_budget_is_shared_out_over_starts():
    share = Budget(min_runs=130, min_seconds=0.5, max_seconds=5.0, rounds=20, processes=5).share()
    assert share == (26, 0.1, 1.0, 4, 1, 2000)


def test_every_start_has_fresh_processes(job):
    budget = Budget(min_runs=12, min_seconds=0.001, max_seconds=0.1, rounds=4, processes=3, prepare_timeout_s=60)
    told = []
    timings = measure_group([job("A"), job("B", [2.0])], budget, 1, lambda *progress: told.append(progress))
    for label, call in (("A", 1.0), ("B", 2.0)):
        assert timings[label]["starts"] == [2, 2, 2]
        assert timings[label]["rounds_ms"] == [[call] * 2] * 6  # 4 runs a start over two rounds
    assert [done for done, total, _ in told if total == 6] == sorted(done for done, *_ in told)
    assert told[-1] == (6, 6, "start 3 of 3, throughput")


def test_a_session_that_fails_in_one_start_is_in_no_further_one(job, tmp_path):
    budget = Budget(min_runs=12, min_seconds=0.001, max_seconds=0.1, rounds=4, processes=2, prepare_timeout_s=60)
    results = measure_group([job("A"), job("B", fault="second")], budget, 1)
    assert results["A"]["starts"] == [2, 2]
    assert results["B"] == "ValueError: the second start fails"


class Clocked:
    """Calls take the next of `times_ns`, then the last of them for ever."""

    def __init__(self, times_ns):
        self.times_ns, self.now, self.order = list(times_ns), 0, []

    def clock(self):
        self.order.append("clock")
        return self.now

    def run(self, loaded):
        self.order.append("run")
        self.now += self.times_ns.pop(0) if len(self.times_ns) > 1 else self.times_ns[0]

    def wait(self):
        self.order.append("wait")


def test_the_timed_region_is_one_call_and_its_wait():
    session = Clocked([5, 7])
    assert timed_calls(session, [None], 2) == [5, 7]
    assert session.order == ["clock", "run", "wait", "clock"] * 2


def test_throughput_waits_only_at_the_end():
    session = Clocked([5])
    assert throughput(session, [None], 3) == (3, 15)
    assert session.order == ["clock", "run", "clock", "run", "clock", "run", "wait", "clock"]


def test_throughput_has_a_limit():
    assert throughput(Clocked([5]), [None], 100, limit_ns=12) == (3, 15)
    assert throughput(Clocked([5]), [1, 2], 100, limit_ns=12) == (4, 20)  # whole turns


def test_warm_up_lasts_until_two_windows_agree():
    millisecond = 1_000_000
    # first call; windows of 3 at 50 and of 3 at 8 ms (20 ms hold 0.4 of the former); then 8 ms for ever
    session = Clocked([90 * millisecond, *[50 * millisecond] * 3, 8 * millisecond])
    assert warm_up(session, [None]) == (1 + 3 + 3 + 3, 8 * millisecond)


def test_warm_up_of_a_session_that_never_settles_is_capped():
    session = Clocked([1_000_000 * 2**window for window in range(10) for _ in range(3)])
    calls, _ = warm_up(session, [None])
    assert calls < 60


def test_the_harness_costs_are_measured_on_the_real_clock_only():
    class Real(Clocked):
        clock = staticmethod(time.perf_counter_ns)

    assert overhead_ns(Clocked([5])) == 0.0
    assert overhead_ns(Real([5]), 50) > 0
