"""What every backend promises; a new file in efflab/backends is covered without an edit here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efflab import Backend
from efflab.artefacts.artefact import Artefact, save_module, write_structure
from efflab.foundation import registry
from efflab.foundation.errors import Died, Unavailable
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.quality import parity
from efflab.techniques.cast import cast
from efflab.techniques.export_onnx import export_onnx

BUILDER = {"model": "resnet_cifar", "settings": {"width": 4, "blocks": 1, "channels": 1}}
GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.standard_normal((64, 1, 24, 24)).astype(np.float32)
AVAILABLE = [name for name in registry.names("backends") if registry.load("backends", name).available() is None]
QUICK = [name for name in AVAILABLE if name != "torch_compile"]  # compiling takes long; one test of its own below


RUNNER = Path(__file__).parents[1] / "validation" / "runner.py"
SETTINGS: dict[str, dict[str, Any]] = {"command": {"command": [sys.executable, str(RUNNER)]}}


def made(name: str) -> Backend:
    backend: Backend = registry.load("backends", name)(**SETTINGS.get(name, {}))
    return backend


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def fresh_module() -> torch.nn.Module:
    torch.manual_seed(0)
    module = resnet_cifar(**BUILDER["settings"])
    module(torch.from_numpy(INPUTS))
    return module.eval()


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    module, folder = fresh_module(), tmp_path_factory.mktemp("artefacts")
    save_module(module, BUILDER, [], folder / "module")
    (folder / "onnx").mkdir()
    export_onnx(module, folder / "onnx" / "model.onnx", torch.from_numpy(INPUTS[:2]))
    write_structure(folder / "onnx", "onnx")
    save_module(
        cast(fresh_module(), "bfloat16"),
        BUILDER,
        [{"technique": "cast", "structure": {"dtype": "bfloat16"}}],
        folder / "bf16",
    )
    return {form: Artefact.open(folder / form) for form in ("module", "onnx", "bf16")}


def expected(inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = fresh_module()(torch.from_numpy(inputs)).numpy()
    return result


def sqnr_db(actual: Any, inputs: np.ndarray) -> float:
    value = parity(actual, expected(inputs))["sqnr_db"]
    assert value is not None
    return value


def prepare(backend: Backend, artefacts: dict[str, Artefact], inputs: np.ndarray) -> Any:
    return backend.prepare(artefacts[backend.takes], (inputs,), 1)


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("name", QUICK)
def test_gives_the_reference_answers_and_leaves_inputs_alone(name, batch, artefacts):
    inputs = INPUTS[:batch].copy()
    session = prepare(made(name), artefacts, inputs)
    outputs = session((inputs,))
    assert (outputs.dtype, outputs.shape) == (np.float32, (batch, 10))
    assert sqnr_db(outputs, inputs) > 80
    assert np.array_equal(inputs, INPUTS[:batch])
    loaded = session.load((inputs,))
    first = session.fetch(session.run(loaded))
    second = session.fetch(session.run(loaded))
    session.wait()
    assert np.array_equal(first, second), "the same input again"


@pytest.mark.parametrize("name", QUICK)
def test_sessions_share_no_buffers(name, artefacts):
    backend = made(name)
    one, two = (prepare(backend, artefacts, INPUTS[:4]) for _ in range(2))
    first = one((INPUTS[:4],))
    kept = first.copy()
    other = two((INPUTS[4:8],))
    later = one((INPUTS[8:12],))
    assert np.array_equal(first, kept)
    assert not any(np.shares_memory(a, b) for a, b in [(first, other), (first, later), (first, INPUTS)])
    assert sqnr_db(other, INPUTS[4:8]) > 80


@pytest.mark.parametrize("name", QUICK)
def test_takes_another_batch_size_than_the_example(name, artefacts):
    session = prepare(made(name), artefacts, INPUTS[:4])
    assert sqnr_db(session((INPUTS[:7],)), INPUTS[:7]) > 80


@pytest.mark.parametrize("name", ["torch", "fake"])
def test_runs_16_bit_modules_from_float32_arrays(name, artefacts):
    session = made(name).prepare(artefacts["bf16"], (INPUTS[:4],), 1)
    outputs = session((INPUTS[:4],))
    assert outputs.dtype == np.float32
    assert 20 < sqnr_db(outputs, INPUTS[:4]) < 80


@pytest.mark.parametrize("settings", [{"channels_last": True}, {"dtype": "bfloat16"}])
def test_torch_settings(settings, artefacts):
    session = prepare(registry.load("backends", "torch")(**settings), artefacts, INPUTS[:4])
    assert sqnr_db(session((INPUTS[:4],)), INPUTS[:4]) > (20 if "dtype" in settings else 80)


@pytest.mark.skipif("torch_compile" not in AVAILABLE, reason="needs a C++ compiler")
def test_torch_compile(tmp_path, monkeypatch):
    builder = {"python": str(tmp_path / "model.py"), "function": "tiny", "settings": {}}
    (tmp_path / "model.py").write_text(
        "import torch\ndef tiny():\n    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())\n"
    )
    from efflab.artefacts.user_models import build_foreign
    from efflab.cards.baseline import file_digest

    builder["sha256"] = file_digest(tmp_path / "model.py")
    module = build_foreign(builder)
    save_module(module, builder, [], tmp_path / "artefact")
    inputs = GENERATOR.standard_normal((4, 3)).astype(np.float32)
    session = registry.load("backends", "torch_compile")().prepare(Artefact.open(tmp_path / "artefact"), (inputs,), 1)
    with torch.no_grad():
        wanted = module(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(session((inputs,)), wanted, rtol=1e-5, atol=1e-6)


def test_torch_compile_without_a_compiler_gives_the_reason(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = registry.load("backends", "torch_compile").available()
    assert reason is not None
    assert "C++ compiler" in reason


@pytest.mark.parametrize(
    ("name", "line"), [("openvino", 'pip install "efflab[openvino]"'), ("onnxruntime", "pip install onnxruntime")]
)
def test_a_missing_library_gives_its_install_line(name, line, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None)
    reason = registry.load("backends", name).available()
    assert reason == f"{name} is not installed: {line}"


def test_onnxruntime_names_the_providers_of_its_build(artefacts):
    backend = registry.load("backends", "onnxruntime")(provider="CpuExecutionProvider")
    with pytest.raises(Unavailable, match="did you mean 'CPUExecutionProvider'"):
        prepare(backend, artefacts, INPUTS[:1])


@pytest.mark.parametrize("level", ["none", "basic"])
def test_onnxruntime_optimisation_levels(level, artefacts):
    session = prepare(registry.load("backends", "onnxruntime")(optimisation=level), artefacts, INPUTS[:4])
    assert sqnr_db(session((INPUTS[:4],)), INPUTS[:4]) > 80


@pytest.mark.skipif("openvino" not in AVAILABLE, reason="openvino is not installed")
def test_openvino_says_what_the_device_lacks(artefacts):
    backend = registry.load("backends", "openvino")
    with pytest.raises(Unavailable, match="finds no device 'NPX'"):
        prepare(backend(target="NPX"), artefacts, INPUTS[:1])
    for precision in ("f16", "bf16"):
        try:
            session = prepare(backend(precision=precision), artefacts, INPUTS[:4])
        except Unavailable as error:
            assert f"has no {precision} arithmetic" in str(error)
        else:
            assert 20 < sqnr_db(session((INPUTS[:4],)), INPUTS[:4]) < 100


def test_the_fake_clock_is_scripted(artefacts):
    backend = registry.load("backends", "fake")(base_ms=2.0, ns_per_byte=0.0, exponent=1.0, jitter=0.0)
    session = prepare(backend, artefacts, INPUTS[:3])
    loaded = session.load((INPUTS[:3],))
    times = []
    for _ in range(3):
        started = session.clock()
        session.run(loaded)
        times.append(session.clock() - started)
    assert times == [6_000_000] * 3


@pytest.mark.parametrize(("fault", "error", "said"), [
    ("dies", Died, "the program was killed by SIGABRT at 'run'"),
    ("no_time", RuntimeError, "without its nanoseconds"),
    ("chatty", RuntimeError, "no JSON object"),
])  # fmt: skip
def test_a_program_that_breaks_the_exchange_is_told_in_words(fault, error, said, artefacts):
    backend = registry.load("backends", "command")(command=[sys.executable, str(RUNNER), fault])
    with pytest.raises(error, match=said):
        prepare(backend, artefacts, INPUTS[:2])


def test_the_clock_of_a_program_is_its_own(artefacts):
    session = prepare(made("command"), artefacts, INPUTS[:2])
    loaded, started = session.load((INPUTS[:2],)), session.clock()
    session.run(loaded)
    assert 0 < session.clock() - started < 60e9
    assert session.fallbacks() == {}
    with pytest.raises(Unavailable, match="there is no program 'nothing-here'"):
        prepare(registry.load("backends", "command")(command=["nothing-here"]), artefacts, INPUTS[:2])


def test_the_fake_computes_a_batch_once_and_another_batch_afresh(artefacts):
    session = registry.load("backends", "fake")().prepare(artefacts["module"], (INPUTS[:2],), 1)
    loaded, other = session.load((INPUTS[:2],)), session.load((INPUTS[2:4],))
    first = session.run(loaded)
    assert session.run(loaded) is first
    assert not np.array_equal(session.fetch(session.run(other)), session.fetch(first))
    assert np.array_equal(session.fetch(session.run(loaded)), session.fetch(first))


def test_the_fake_clock_repeats_its_jitter_and_knows_the_weights(artefacts):
    def times(form: str) -> list[int]:
        session = registry.load("backends", "fake")(jitter=0.1).prepare(artefacts[form], (INPUTS[:1],), 1)
        loaded, result = session.load((INPUTS[:1],)), []
        for _ in range(50):
            started = session.clock()
            session.run(loaded)
            result.append(session.clock() - started)
        return result

    first = times("module")
    assert first == times("module")
    assert len(set(first)) > 40
    assert max(first) / min(first) < 1.1 / 0.9
    assert sum(times("bf16")) < sum(first)
