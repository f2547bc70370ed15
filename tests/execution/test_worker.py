"""What a stage gives is kept only where it can be read and compared again."""

import math

import pytest

from efflab.contracts.executor import Job, Resources
from efflab.execution import worker
from efflab.execution.worker import do_job, unstorable
from efflab.plan.stage_results import Scored
from efflab.plan.stage_specs import Score, TaskRef
from efflab.records.store import LocalStore

SPEC = Score(kind="quality", backend="fake", settings={}, task=TaskRef(name="t"))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"a": [1, 2.5, None, True, "text", {"b": -0.0}]}, ""),
        ({"a": [1, math.nan]}, "it.a[1] is nan, which is no finite number"),
        ({"a": {"b": -math.inf}}, "it.a.b is -inf, which is no finite number"),
        ({"a": 10**301}, f"it.a is {str(10**301)[:57]}..., which is no finite number"),
        (["half a \udc80 character"], "it[0] is text with characters that cannot be written"),
    ],
)
def test_what_cannot_be_kept_is_named(value, fault):
    assert unstorable(value, "it") == fault


def job():
    return Job("one", "title", SPEC.model_dump(mode="json"), (), Resources(alone=True))


def test_a_result_that_is_not_finite_fails_and_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "execute", lambda *given: Scored({"metric": "accuracy", "value": math.nan}))
    store = LocalStore(tmp_path)
    store.prepare()
    done = do_job(job(), store, lambda *given: None)
    assert (done.status, done.reason) == ("failed", "its result.value is nan, which is no finite number")
    assert not store.holds("one")
    assert not (tmp_path / "work" / "one").exists()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("no")])
def test_whatever_is_raised_leaves_no_half_of_a_stage(error, tmp_path, monkeypatch):
    def execute(*given):
        (tmp_path / "work" / "one" / "half").write_text("x")
        raise error

    monkeypatch.setattr(worker, "execute", execute)
    store = LocalStore(tmp_path)
    store.prepare()
    with pytest.raises(type(error)):
        do_job(job(), store, lambda *given: None)
    assert not (tmp_path / "work" / "one").exists()
