"""Every deliberately broken backend is caught, and by the check that its fault belongs to."""

import pytest
from faults import FAULTS, write_backend

from efflab.validation.backends.localise import localise
from efflab.validation.backends.pool import Opening, run_requests
from efflab.validation.backends.suites.behaviour import CHECKS, LIMIT_S
from efflab.validation.backends.suites.models import run_models
from efflab.validation.zoo import make_zoo


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return make_zoo(tmp_path_factory.mktemp("zoo"), ["resnet"])


@pytest.fixture
def broken(tmp_path, monkeypatch):
    def make(fault):
        monkeypatch.setenv("EFFLAB_PLUGINS", str(tmp_path))
        return Opening(write_backend(tmp_path, fault), {}, 2, [])

    return make


def behaviour(opening, model, check):
    request = {
        "suite": "behaviour", "name": check, "folder": model.folders["onnx"], "form": "onnx", "inputs": model.inputs,
        "limit_s": 6.0 if check == "empty_batch" else LIMIT_S.get(check, 60.0),
    }  # fmt: skip
    (outcome,) = run_requests(opening, [request], 1, 60.0)
    return outcome


@pytest.mark.parametrize(
    ("fault", "check", "verdict", "said"),
    [
        ("stale_output", "outputs_are_kept", "wrong", "stale buffer"),
        ("own_buffer", "outputs_are_kept", "wrong", "the runtime's own buffer"),
        ("not_deterministic", "repeatable", "wrong", "differs from the first"),
        ("ignores_wait", "waiting_waits", "wrong", "the work is done there"),
        ("leaks", "loads_without_growth", "wrong", "the process grew by "),
        ("crashes_on_odd_batch", "rows_are_apart", "crash", "killed by SIGSEGV"),
        ("hangs_on_empty_batch", "empty_batch", "hang", "gave no answer within 6 s"),
        ("falls_back", "runs_where_it_says", "fell back", "the device is mychip, but"),
        ("falls_back_openly", "runs_where_it_says", "fell back", "Conv on the processor"),
        ("mutates_input", "inputs_untouched", "wrong", "input arrays were changed"),
        ("swallows_nan", "nan_is_carried", "wrong", "NaN gives finite outputs"),
        ("many_threads", "threads_obeyed", "wrong", "one thread was asked for"),
        ("mixes_rows", "rows_are_apart", "wrong", "rows of a batch"),
    ],
)
def test_a_fault_of_behaviour_has_its_verdict(fault, check, verdict, said, zoo, broken):
    outcome = behaviour(broken(fault), zoo[0], check)
    assert (outcome.verdict, said in outcome.reason) == (verdict, True), outcome


@pytest.mark.parametrize("check", CHECKS)
def test_the_sound_backend_passes(check, zoo, broken):
    outcome = behaviour(broken("sound"), zoo[0], check)
    assert outcome.verdict == "pass", outcome


@pytest.mark.parametrize("fault", ["wrong_rounding", "transposed_weights"])
def test_wrong_numbers_are_wrong_and_located(fault, zoo, broken, tmp_path):
    opening = broken(fault)
    found = run_models(opening, zoo, tmp_path, quick=True)
    *parity, (_, accuracy) = found
    assert {outcome.verdict for _, outcome in parity} == {"wrong"}
    assert all("dB" in outcome.reason for _, outcome in parity)
    assert "points against the reference" in accuracy.reason
    assert accuracy.verdict == ("wrong" if fault == "transposed_weights" else "pass"), accuracy
    case = found[0][0].request
    where = localise(opening, tmp_path / case["folder"] / "model.onnx", zoo[0].inputs, tmp_path / "cuts", 80)
    assert not isinstance(where, str), where
    assert where.operator == "Conv"
    assert where.confirmed


def test_all_faults_are_tested():
    tested = {"sound", "wrong_rounding", "transposed_weights"}
    marks = test_a_fault_of_behaviour_has_its_verdict.pytestmark
    assert tested | {fault for mark in marks for fault, *_ in mark.args[1]} == set(FAULTS)
