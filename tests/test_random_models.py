"""Random small nets through every technique: a row with status ok has the score that its artefact has in its bare library."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import random_models
import torch
from hypothesis import HealthCheck, given, settings
from random_models import build, draw_graph, graphs, modules
from safetensors.torch import save_file

from efflab.artefacts.artefact import Artefact, untied
from efflab.artefacts.interface import leaves
from efflab.execution.stages.execute import execute
from efflab.foundation import registry
from efflab.foundation.errors import RequestError, Unavailable
from efflab.foundation.files import file_digest
from efflab.plan.stage_specs import read_spec
from efflab.records.samples import unpack_scores
from efflab.tasks.digits_clutter import DigitsClutter

SETTINGS = {"train": 64, "validation": 16, "test": 24}
TASK = DigitsClutter(**SETTINGS)
TESTED = TASK.split("test")
NEEDS_MORE = {  # what these take is not among the drawn nets; tests of their own hold them
    "add_exits", "choose_exits", "cut_subnet", "merge_tokens", "prune_heads", "train_supernet", "transfer_attention",
}  # fmt: skip
BY_FORM = {
    form: sorted(
        name
        for name in registry.names("techniques")
        if registry.load("techniques", name).takes == form and name not in NEEDS_MORE
    )
    for form in ("module", "onnx")
}
FEW = {"derandomize": True, "deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
BACKEND = {"module": "torch", "onnx": "onnxruntime"}


def do(kind, folder, needs, **told):
    folder.mkdir(parents=True)
    spec = read_spec({"kind": kind, "task": {"name": "digits_clutter", "settings": SETTINGS}, **told})
    return execute(spec, needs, folder, lambda done, total, note: None)


def bare_hits(artefact):
    """Return which test examples a stored model gets right, run by its own library and read by the form of its outputs."""
    batch = artefact.interface.batch or len(TESTED)
    hits = []
    for start in range(0, len(TESTED), batch):
        images = TESTED.inputs[0][start : start + batch]
        if artefact.form == "module":
            with torch.inference_mode():
                outputs = artefact.module()(
                    torch.from_numpy(images.copy()).to(next(artefact.module().parameters()).dtype)
                )
            found = [one.float().numpy() for one in leaves(outputs)]
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(str(artefact.onnx), providers=["CPUExecutionProvider"])
            (value, *_) = session.get_inputs()
            found = session.run(None, {value.name: images.astype(np.float16 if "16" in value.type else np.float32)})
        # of the drawn nets only the logits have 10 columns, or 12 where two classes are switched off
        logits = next(one for one in found if one.shape[1] in (10, 12)).reshape(len(images), -1)
        hits += (logits.argmax(1) == TESTED.targets[start : start + batch]).tolist()
    return hits


def held(artefact, folder, needs, form):
    """Score an artefact as a row does, and hold the scores against the bare run."""
    row = do("quality", folder, needs, backend=BACKEND[form], settings={}).quality
    scores = unpack_scores(row["scores"]).astype(bool).tolist()
    assert scores == bare_hits(artefact)
    assert row["value"] == pytest.approx(np.mean(scores))
    return row


def card(folder: Path, source: str, extra: str = "") -> str:
    (folder / "net.yaml").write_text(
        f"name: net\ntask: {{digits_clutter: {json.dumps(SETTINGS)}}}\n{source}\n{extra}\n"
    )
    return str(folder / "net.yaml")


def through(folder: Path, path: str, names: list[str], form: str) -> dict[str, str]:
    """Put a card's model through techniques; return how each ended. What ends well is held against its bare library."""
    do("baseline", folder / "base", [], content={}, card=path, seed=0, form=form)
    base = Artefact.open(folder / "base")
    held(base, folder / "base-score", [folder / "base"], form)
    ends = {}
    for name in names:
        technique = registry.load("techniques", name)
        step = folder / name
        try:
            told = {"technique": name, "settings": dict(technique.tiny), "version": technique.version, "seed": 0}
            result = do("step", step, [folder / "base"] * 2, **told)
        except (RequestError, Unavailable) as error:
            assert "\n" not in str(error)
            ends[name] = str(error)
            continue
        assert result.fidelity["sqnr_db"] is not None
        made = Artefact.open(step)
        assert made.interface.scored is not None
        held(made, folder / f"{name}-score", [step], technique.gives)
        ends[name] = "ok"
    return ends


@pytest.fixture(scope="module")
def seen():
    found: dict[str, set[str]] = {}
    yield found
    # the test means something only if each technique took some of the nets
    for name, ends in found.items():
        assert "ok" in ends, (name, ends)


def note(seen, ends):
    for name, end in ends.items():
        seen.setdefault(name, set()).add(end)


@settings(max_examples=14, **FEW)
@given(drawn=modules)
def test_modules(tmp_path_factory, seen, drawn):
    folder = tmp_path_factory.mktemp("module")
    source = inspect.getsource(random_models).split("modules = st.")[0]
    kept = [line for line in source.splitlines() if not line.startswith(("from hypothesis", "from onnx"))]
    (folder / "drawn.py").write_text("\n".join(kept))
    net = build(**drawn)
    save_file(untied(net.state_dict()), str(folder / "net.safetensors"))
    path = card(
        folder,
        f"python: {{file: drawn.py, function: build, settings: {json.dumps(drawn)}}}",
        f'weights: [{{file: net.safetensors, sha256: "{file_digest(folder / "net.safetensors")}"}}]',
    )
    note(seen, through(folder, path, BY_FORM["module"], "module"))


@settings(max_examples=16, **FEW)
@given(drawn=graphs)
def test_graphs(tmp_path_factory, seen, drawn):
    folder = tmp_path_factory.mktemp("graph")
    draw_graph(folder / "net.onnx", **drawn)
    note(seen, through(folder, card(folder, "onnx: net.onnx"), BY_FORM["onnx"], "onnx"))
