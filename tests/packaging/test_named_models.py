"""A store that somebody gave may hold Python code: only what the user's own cards name is run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from worlds import TINY_TASK, efflab, make_recipe

from efflab.artefacts import user_models
from efflab.artefacts.artefact import Artefact
from efflab.cards.baseline import load_baseline
from efflab.cards.named_models import note_models_of_cards
from efflab.cli.main import main
from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest

NET = """
import os
import pathlib

pathlib.Path(os.environ.get("MARK", "ran")).touch()


def build(width):
    from efflab.models.resnet_cifar import resnet_cifar
    return resnet_cifar(width, 1, 1)
"""
MEASURE = (
    "seeds: [0], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false"
)
SAID = "is built by Python code that came with it, and no card here names that code"


def card(folder, width=4):
    from efflab.models.resnet_cifar import resnet_cifar

    cards = folder / "baselines"
    cards.mkdir(exist_ok=True)
    (cards / "net.py").write_text(NET)
    torch.manual_seed(0)
    save_file(resnet_cifar(width, 1, 1).state_dict(), str(cards / "w.safetensors"))
    path = cards / "tiny.yaml"
    path.write_text(
        f"name: tiny\ntask: {TINY_TASK}\npython: {{file: net.py, function: build, settings: {{width: {width}}}}}\n"
        f"weights: [{{file: w.safetensors, sha256: {file_digest(cards / 'w.safetensors')}}}]\n"
    )
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    card(folder)
    make_recipe(folder, "b16: [{cast: {dtype: bfloat16}}]", measure=MEASURE, backends="[fake]")
    done = efflab("run", "r.yaml", cwd=folder, EFFLAB_STORE="", MARK="ran")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "ran").unlink()
    return folder


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of the world, in a process that has not yet read any card."""
    folder = shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.delenv(user_models.NAMED, raising=False)
    monkeypatch.delenv("EFFLAB_STORE", raising=False)
    monkeypatch.setenv("MARK", str(folder / "ran"))
    return folder


def told(capsys, *words):
    code = main(list(words))
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return code, found.out + found.err


def test_a_model_of_the_users_card_is_exported(here, capsys):
    code, said = told(capsys, "export", "r", "b16", "--out", "package")
    assert code == 0, said


def test_without_the_card_its_code_is_not_run(here, capsys):
    (here / "baselines").rename(here / "gone")
    for words in (("export", "r", "b16"), ("export", str(here / ".efflab" / "studies" / "r"), "tiny")):
        code, said = told(capsys, *words, "--out", "package")
        assert code == 2
        assert SAID in said
    assert told(capsys, "report", "r", "--out", "page")[0] == 0
    assert not (here / "ran").exists()
    assert not (here / "package").exists()


@pytest.mark.parametrize("change", [{"function": "touch"}, {"settings": {"width": 9}}, {"sha256": "0" * 64}])
def test_a_card_names_the_function_and_its_settings_too(change, here, capsys):
    note_models_of_cards()
    folder = next(one.parent for one in (here / ".efflab" / "stages").glob("*/artefact.json"))
    structure = json.loads((folder / "artefact.json").read_text())
    Artefact.open(folder).module()
    structure["builder"] |= change
    (folder / "artefact.json").write_text(json.dumps(structure))
    with pytest.raises(RequestError, match=SAID):
        Artefact.open(folder).module()


def test_a_run_does_not_take_code_from_a_store(here, world):
    """The stage is named as the user's own would be; only its code is another's."""
    stages = here / ".efflab" / "stages"
    for structure in stages.glob("*/artefact.json"):
        folder, content = structure.parent, json.loads(structure.read_text())
        (folder / "builder.py").write_text(NET + "\npathlib.Path('evil').touch()\n")
        content["builder"]["sha256"] = file_digest(folder / "builder.py")
        structure.write_text(json.dumps(content))
        stage = json.loads((folder / "stage.json").read_text())
        stage["files"] = {name: file_digest(folder / name) for name in stage["files"]}
        (folder / "stage.json").write_text(json.dumps(stage))
    for one in stages.iterdir():
        if not (one / "artefact.json").exists():
            shutil.rmtree(one)  # so that the models are needed
    done = efflab("run", "r.yaml", cwd=here, EFFLAB_STORE="", EFFLAB_MODELS_OF_CARDS="")
    assert "Traceback" not in done.stderr
    assert not (here / "evil").exists(), done.stdout + done.stderr


def test_a_card_whose_file_is_missing_names_nothing(here):
    (here / "baselines" / "net.py").unlink()
    load_baseline(here / "baselines" / "tiny.yaml")
    note_models_of_cards()
    assert user_models.named_models() == ()
