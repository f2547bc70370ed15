"""What every technique promises; a new file in efflab/techniques is covered without an edit here."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from efflab import registry
from efflab.artefact import Artefact, load_module, save_module, write_structure
from efflab.errors import RequestError
from efflab.metrics import METRICS
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work import count_module, count_onnx
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.technique import Context, Technique
from efflab.validation.zoo import BUILDERS

TECHNIQUES = registry.names("techniques")
BUILDER = {"model": "resnet_cifar", "settings": {"width": 8, "blocks": 1, "channels": 1}}
TASK = DigitsClutter(**DigitsClutter.tiny)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def fresh_module() -> torch.nn.Module:
    torch.manual_seed(0)
    module = resnet_cifar(**BUILDER["settings"])
    module(torch.from_numpy(TASK.split("train").inputs[0][:64]))  # statistics of the batch norms
    return module.eval()


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    path: Path = tiny("export_onnx").apply(fresh_module(), context(folder)).model
    return path


def tiny(name: str) -> Technique:
    schema = registry.load("techniques", name)
    technique: Technique = schema(**schema.tiny)
    return technique


def context(folder: Path, seed: int = 0) -> Context:
    return Context(TASK, seed, folder, baseline=fresh_module, card=lambda name: fresh_module())


def apply(technique: Technique, graph: Path, folder: Path, seed: int = 0) -> Artefact:
    """Apply a technique to its kind of model and store the result as the flow does."""
    folder.mkdir()
    if technique.takes == "module":
        result = technique.apply(fresh_module(), context(folder, seed))
    else:
        result = technique.apply(graph, context(folder, seed))
    if technique.gives == "onnx":
        assert result.model == folder / "model.onnx"
        write_structure(folder, "onnx")
        return Artefact.open(folder)
    name = next(name for name in TECHNIQUES if registry.load("techniques", name) is type(technique))
    edits = [] if result.structure is None else [{"technique": name, "structure": result.structure}]
    save_module(result.model.eval(), BUILDER, edits, folder)
    loaded = load_module(folder)
    inputs = torch.from_numpy(TASK.split("validation").inputs[0][:4])
    inputs = inputs.to(next(loaded.parameters()).dtype)
    with torch.no_grad():
        assert torch.equal(loaded(inputs), result.model(inputs))
    json.dumps(result.structure)
    return Artefact.open(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ledger(artefact: Artefact) -> dict[str, Any]:
    if artefact.form == "onnx":
        work = count_onnx(artefact.onnx)
    else:
        module = artefact.module()
        example = torch.from_numpy(TASK.split("train").inputs[0][:1]).to(next(module.parameters()).dtype)
        work = count_module(module, (example,))
    return {**work, "artefact_bytes": artefact.bytes}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_changes_the_model_moves_its_claims_and_repeats_itself(name: str, graph: Path, tmp_path: Path) -> None:
    technique = tiny(name)
    before = tmp_path / "before"
    if technique.takes == "module":
        save_module(fresh_module(), BUILDER, [], before)
    else:
        before.mkdir()
        (before / "model.onnx").write_bytes(graph.read_bytes())
        write_structure(before, "onnx")
    artefact = apply(technique, graph, tmp_path / "first")
    assert contents(artefact.folder) != contents(before)
    old, new = ledger(Artefact.open(before)), ledger(artefact)
    for claim in technique.claims:
        assert (new[claim] - old[claim]) * METRICS[claim].better > 0, claim
    again = apply(technique, graph, tmp_path / "second")
    assert contents(again.folder) == contents(artefact.folder)
    if technique.random:
        other = apply(technique, graph, tmp_path / "third", seed=1)
        assert contents(other.folder) != contents(artefact.folder)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_says_what_it_is(name: str) -> None:
    schema = registry.load("techniques", name)
    assert schema.takes in ("module", "onnx")
    assert schema.gives in ("module", "onnx")
    assert set(schema.claims) <= set(METRICS)
    assert len(schema.model_fields) <= 7
    assert schema.__doc__.split("\n")[0].endswith(".")
    for other in (*schema.after, *schema.before):
        assert other in TECHNIQUES
    module = __import__(schema.__module__, fromlist=[name])
    assert callable(getattr(module, name)), "usable as a plain function too"


@pytest.mark.parametrize("name", TECHNIQUES)
def test_refuses_bad_settings(name: str) -> None:
    schema = registry.load("techniques", name)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        schema(**schema.tiny, no_such_setting=1)
    for field in schema.model_fields:
        with pytest.raises(ValidationError):
            schema(**{**schema.tiny, field: ["neither", "this"]})


BAD = [
    ("prune_channels", {"ratio": 1.0}),
    ("prune_channels", {"ratio": 0.0}),
    ("prune_channels", {"importance": "l3"}),
    ("finetune", {"epochs": 0.0}),
    ("finetune", {"learning_rate": float("nan")}),
    ("distill", {"weight": 1.5}),
    ("distill", {"temperature": 0.0}),
    ("export_onnx", {"opset": 7}),
    ("prune_weights", {"sparsity": 1.0}),
    ("prune_weights", {"pattern": "1:2"}),
    ("low_rank", {"energy": 1.0}),
    ("reestimate_norms", {"examples": 1}),
    ("quantize_weights", {"bits": 3}),
    ("quantize_static", {"calibration_examples": 0}),
    ("quantize_static", {"engine": "nncf", "calibrator": "entropy"}),
    ("quantize_dynamic", {"per_channel": "yes"}),
    ("cast", {"dtype": "float32"}),
]


@pytest.mark.parametrize(("name", "settings"), BAD)
def test_refuses_values_out_of_range(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        registry.load("techniques", name)(**settings)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_control_has_the_same_settings_but_one(name: str) -> None:
    technique = tiny(name)
    control = technique.control()
    if control is not None:
        changed = {key for key, value in technique.model_dump().items() if control.model_dump()[key] != value}
        assert len(changed) == 1
        assert control.control() is None


def test_leaves_the_example_and_the_task_alone(tmp_path: Path) -> None:
    before = copy.deepcopy(TASK.split("train").inputs[0])
    tiny("prune_channels").apply(fresh_module(), context(tmp_path))
    assert np.array_equal(before, TASK.split("train").inputs[0])


OTHERS = {name: builder for name, builder in BUILDERS.items() if name != "resnet"}


@pytest.fixture(scope="session", params=OTHERS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Give the builder of another kind of net, and its ONNX file."""
    builder = OTHERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return builder, tiny("export_onnx").apply(built(builder), context(folder)).model


def built(builder: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    module: torch.nn.Module = registry.load("models", builder["model"])(**builder["settings"])
    module(torch.from_numpy(TASK.split("train").inputs[0][:64]))
    return module.eval()


@pytest.mark.parametrize("name", TECHNIQUES)
def test_works_on_every_kind_of_net_or_says_why_not(
    name: str, other: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    builder, path = other
    technique = tiny(name)
    where = Context(TASK, 0, tmp_path, baseline=lambda: built(builder), card=lambda _: built(builder))
    try:
        result = technique.apply(built(builder) if technique.takes == "module" else path, where)
    except RequestError as refused:
        assert str(refused).startswith(name)
        return
    inputs = torch.from_numpy(TASK.split("validation").inputs[0][:4])
    if technique.gives == "module":
        name = next(one for one in TECHNIQUES if registry.load("techniques", one) is type(technique))
        edits = [] if result.structure is None else [{"technique": name, "structure": result.structure}]
        save_module(result.model.eval(), builder, edits, tmp_path / "saved")
        loaded = load_module(tmp_path / "saved")
        inputs = inputs.to(next(loaded.parameters()).dtype)
        with torch.no_grad():
            outputs = loaded(inputs)
            assert torch.equal(outputs, result.model(inputs))
        assert outputs.shape == (4, 10)
    else:
        session = onnxruntime.InferenceSession(result.model, providers=["CPUExecutionProvider"])
        (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        assert outputs.shape == (4, 10)
