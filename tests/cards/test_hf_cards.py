"""Cards of Hugging Face's image classifiers: they are exported, quantised and measured, and what does not fit is said first."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoints import NAMES, change, checkpoint
from worlds import TINY_TASK, efflab

import efflab as lab
from efflab import Task
from efflab.cards.baseline import load_baseline
from efflab.cards.hugging_face import checkpoint as checkpoint_file
from efflab.cards.hugging_face.checkpoint import CONFIG, WEIGHTS
from efflab.cards.hugging_face.export import export_checkpoint
from efflab.cards.hugging_face.fit import misfits
from efflab.execution.stages.load_baseline import run_baseline
from efflab.foundation import registry
from efflab.foundation.errors import RequestError, Unavailable
from efflab.plan.stage_specs import LoadBaseline, TaskRef
from efflab.recipe.recipe import load_recipe
from efflab.recipe.schema import card_schema
from efflab.tasks.digits_clutter import DigitsClutter

pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")

BUDGET = "min_runs: 11, min_seconds: 0.001, max_seconds: 0.002, rounds: 5, processes: 1, threads: 1, controls: false"
QUANTIZED = "{s: [{quantize_static: {calibration_examples: 32}}], d: [{quantize_dynamic: {}}]}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def study(saved, tmp_path_factory):
    """What a run of all three gives, and where."""
    folder, before = tmp_path_factory.mktemp("run"), os.getcwd()
    os.chdir(folder)
    try:
        for name in NAMES:
            shutil.copytree(saved[0] / name, folder / "baselines" / f"{name}-net")
            write_card(folder, f"model: {{hf: {name}-net}}", name)
        return lab.run_recipe(write_recipe(folder, QUANTIZED, f"[{', '.join(NAMES)}]"), workers=1), folder
    finally:
        os.chdir(before)


@pytest.fixture
def vit(in_folder, saved):
    """A card of the vision transformer, whose checkpoint a test may change."""
    shutil.copytree(saved[0] / "vit", in_folder / "baselines" / "net")
    return write_card(in_folder, "model: {hf: net}")


def write_card(folder, line, name="mine", task=TINY_TASK):
    (folder / "baselines").mkdir(exist_ok=True)
    card = folder / "baselines" / f"{name}.yaml"
    card.write_text(f"name: {name}\ntask: {task}\n{line}\n")
    return card


def write_recipe(folder, variants="{d: [{quantize_dynamic: {}}]}", baseline="mine"):
    path = folder / "r.yaml"
    measure = f"{{backends: [onnxruntime], seeds: [0, 1], batch_sizes: [1], {BUDGET}}}"
    path.write_text(f"name: r\nbaseline: {baseline}\nvariants: {variants}\nmeasure: {measure}\n")
    return path


def said(folder):
    with pytest.raises(RequestError) as caught:
        load_recipe(write_recipe(folder))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_exported_quantized_and_measured(study, saved, name):
    records = [one for one in study[0]["records"] if one["baseline"] == name]
    assert {one["variant"] for one in records} == {name, f"s@{name}", f"d@{name}"}
    assert {one["status"] for one in records} == {"ok"}, [one["reason"] for one in records]
    work = {one["variant"]: one["work"] for one in records}
    assert work[name]["coverage"] == 1
    assert work[f"s@{name}"]["bit_operations"] < work[name]["bit_operations"] / 4
    graph = study[1] / ".efflab/stages" / records[0]["stages"]["artefact"] / "model.onnx"
    axes = [axis.dim_value or axis.dim_param for axis in onnx.load(graph).graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 1, 24, 24]
    images = np.random.default_rng(0).standard_normal((5, 1, 24, 24), np.float32)
    (logits,) = onnxruntime.InferenceSession(graph).run(["logits"], {"pixel_values": images})
    with torch.no_grad():
        wanted = saved[1][name](torch.from_numpy(images)).logits.numpy()
    assert wanted.std() > 0.01
    np.testing.assert_allclose(logits, wanted, atol=1e-3 * np.abs(wanted).max())


def test_a_second_run_exports_nothing_again(study, monkeypatch):
    monkeypatch.chdir(study[1])
    done = efflab("plan", "r.yaml", cwd=study[1])
    assert done.returncode == 0, done.stderr
    assert "0 finished" not in done.stdout
    assert "nothing to do" in done.stdout
    assert "card vit: there is no preprocessor_config.json" in done.stderr


def test_it_is_listed_with_its_parameters(study):
    rows = json.loads(efflab("ls", "baselines", "--format", "json", cwd=study[1]).stdout)
    row = next(row for row in rows if row["name"] == "vit")
    assert (row["task"], row["seeds"], row["parameters"]) == ("digits_clutter", "0", "19,242")


def test_planning_imports_neither_torch_nor_transformers(vit, in_folder, monkeypatch):
    write_recipe(in_folder)
    program = "import sys; from efflab.cli.main import main; assert main(['plan', 'r.yaml']) == 0; "
    program += "assert not {'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_identity_is_that_of_the_files(vit, in_folder):
    first = load_baseline(vit).content(0)
    (in_folder / "baselines" / "net").rename(in_folder / "baselines" / "other")
    assert load_baseline(write_card(in_folder, "model: {hf: {id: ./other}}")).content(0) == first
    change(in_folder / "baselines" / "other" / CONFIG, layer_norm_eps=1e-6)
    assert load_baseline(vit).content(0) != first


def test_files_that_changed_after_the_plan_are_not_used(vit, in_folder):
    card = load_baseline(vit)
    spec = LoadBaseline(
        card=str(vit), seed=0, content=card.content(0), form="onnx", task=TaskRef(name=next(iter(card.card.task)))
    )
    change(in_folder / "baselines" / "net" / CONFIG, layer_norm_eps=1e-6)
    with pytest.raises(RequestError, match="the model of mine has changed since the plan was made; plan again"):
        run_baseline(spec, in_folder)


def test_a_module_technique_is_refused_by_the_plan(vit, in_folder):
    with pytest.raises(RequestError, match="prune_channels takes a torch module, but the model is an ONNX file there"):
        load_recipe(write_recipe(in_folder, "{p: [{prune_channels: {}}]}"))


def test_it_is_no_teacher(vit, in_folder):
    write_card(in_folder, "model: {resnet_cifar: {}}\ntraining: {epochs: 1}", "small")
    with pytest.raises(RequestError, match="the teacher 'mine' is an ONNX file, but a torch model is wanted"):
        load_recipe(write_recipe(in_folder, "{p: [{prune_channels: {}}, {distill: {teacher: mine}}]}", "small"))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (
            {"id2label": {str(one): "x" for one in range(1000)}},
            "the model tells 1,000 classes apart, the task has 10; train it with a head for the task",
        ),
        ({"id2label": None}, "the model tells 2 classes apart, the task has 10"),
        (
            {"image_size": 224, "num_channels": 3},
            "the model takes images of 3x224x224 (channels, height, width) and no others, the task gives 1x24x24",
        ),
        ({"model_type": "resnet", "num_channels": 3}, "the model takes images of 3 channels, the task gives 1x24x24"),
        ({"architectures": ["ViTModel"]}, "config.json says ViTModel; an image classifier"),
        ({"quantization_config": {}}, "the model is quantised already"),
        ({"num_hidden_layers": 10**9}, "config.json says num_hidden_layers: 1,000,000,000, and its weights hold "),
        ({"hidden_size": 10**9}, "config.json says hidden_size: 1,000,000,000, and its weights hold "),
    ],
)
def test_what_does_not_fit_the_task_is_found_by_the_plan(vit, in_folder, changed, what):
    change(in_folder / "baselines" / "net" / CONFIG, **changed)
    (found,) = said(in_folder)
    assert found.startswith(f"baselines/mine.yaml:3: model.hf: {what}")


class Numbers(Task):
    """A task that is no classification."""

    def digest(self):
        return ""

    split = scores = quality = loss = digest


def test_a_task_without_images_takes_none(saved):
    (what,) = misfits(checkpoint(saved[0] / "vit"), Numbers())
    assert "no classification of images" in what


def damage(net, how):
    weights = net / WEIGHTS
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "text":
        weights.write_text("no weights")
    elif how == "pickled":
        weights.rename(net / "pytorch_model.bin")
    elif how == "none":
        weights.unlink()
    elif how == "shards":
        weights.unlink()
        (net / checkpoint_file.INDEX).write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    elif how == "no config":
        (net / CONFIG).unlink()
    elif how == "bad config":
        (net / CONFIG).write_text("{")


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("cut", "model.safetensors is "),
        ("text", "model.safetensors is no safetensors file"),
        (
            "pickled",
            "{net} has no model.safetensors, only pickled weights (pytorch_model.bin), and nothing is unpickled",
        ),
        ("none", "{net} has no model.safetensors"),
        ("shards", "model.safetensors.index.json names ../../secret.safetensors, which {net} does not hold"),
        ("no config", "{net} has no config.json; a model's folder is what its save_pretrained writes"),
        ("bad config", "{net}/config.json cannot be read as JSON"),
    ],
)
def test_damaged_files_are_found_by_the_plan(vit, in_folder, how, what):
    net = in_folder / "baselines" / "net"
    damage(net, how)
    (found,) = said(in_folder)
    assert found.startswith(f"baselines/mine.yaml:3: model.hf: {what.format(net=net)}")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("model: {hf: {id: net, revison: a}}", "model.hf.revison: unknown key 'revison'; did you mean 'revision'?"),
        ("model: {hf: {id: net, revision: main}}", "model.hf.revision: must be the 40 hexadecimal digits"),
        (f"model: {{hf: {{id: net, revision: {COMMIT}}}}}", "model.hf.revision: a folder has no revision"),
        ("model: {hf: {}}", "model.hf.id: is missing"),
        ("model: {hg: {}}", "model.hg: unknown model 'hg'; did you mean 'hf'?"),
        ("model: {hf: ./nett}", "model.hf: the folder {here}/nett is missing (did you mean 'net'? known: net)"),
        ("model: {hf: net}\ntraining: {epochs: 1}", "a model of Hugging Face comes trained, with its weights"),
    ],
)
def test_a_card_with_a_mistake_is_told_the_key_and_the_right_spelling(vit, in_folder, line, what):
    write_card(in_folder, line)
    assert any(what.format(here=in_folder / "baselines") in one for one in said(in_folder))


def cache(folder, monkeypatch, saved, commit=COMMIT):
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    model = folder / "hub" / "models--someone--digits-vit"
    shutil.copytree(saved[0] / "vit", model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)


def test_a_model_of_the_hub_is_read_from_its_cache_and_pinned(in_folder, saved, monkeypatch):
    cache(in_folder, monkeypatch, saved)
    card = write_card(in_folder, "model: {hf: someone/digits-vit}")
    recipe = load_recipe(write_recipe(in_folder))
    assert f"card mine: commit {COMMIT} of someone/digits-vit is used; `revision` in the card pins it" in recipe.notes
    content = load_baseline(card).content(0)
    assert content["model"]["hf"]["commit"] == COMMIT
    write_card(in_folder, f"model: {{hf: {{id: someone/digits-vit, revision: {COMMIT}}}}}")
    assert load_baseline(card).content(0) == content
    assert not any(COMMIT in note for note in load_recipe(write_recipe(in_folder)).notes)


def test_a_model_of_the_hub_that_is_not_cached_is_told_how_to_come(in_folder, saved, monkeypatch):
    cache(in_folder, monkeypatch, saved)
    write_card(in_folder, "model: {hf: google/vit-base-patch16-224}")
    write_recipe(in_folder)
    done = efflab("plan", "r.yaml", cwd=in_folder)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("efflab: baselines/mine.yaml:3: model.hf: the model google/vit-base-patch16-224 is not in")
    assert '`hf download google/vit-base-patch16-224 --include "*.[js]*"`' in line
    other = COMMIT[::-1]
    write_card(in_folder, f"model: {{hf: {{id: someone/digits-vit, revision: {other}}}}}")
    (found,) = said(in_folder)
    assert f"hf download someone/digits-vit --revision {other}" in found


def test_a_missing_package_is_named_with_the_line_that_installs_it(vit, in_folder, saved, monkeypatch):
    find = checkpoint_file.importlib.util.find_spec
    monkeypatch.setattr(
        checkpoint_file.importlib.util, "find_spec", lambda name, *_: None if name == "transformers" else find(name)
    )
    (found,) = said(in_folder)
    line = 'models of Hugging Face need transformers: pip install "efflab[hf]"'
    assert found == f"baselines/mine.yaml:3: model.hf: {line}"
    with pytest.raises(Unavailable, match="need transformers: pip install"):
        export_checkpoint(checkpoint(saved[0] / "vit"), DigitsClutter(train=16), in_folder / "model.onnx")


def test_no_plug_in_may_take_the_name(in_folder, monkeypatch):
    (in_folder / "plugins" / "models").mkdir(parents=True)
    (in_folder / "plugins" / "models" / "hf.py").write_text("def hf():\n    pass\n")
    monkeypatch.setenv("EFFLAB_PLUGINS", "plugins")
    registry.sources.cache_clear()
    assert "no model can be named 'hf'" in registry.working("models")[1]["hf"]


def test_the_schema_knows_both_forms():
    model = card_schema()["properties"]["model"]["anyOf"][0]
    short, long = model["properties"]["hf"]["anyOf"]
    assert short["type"] == "string"
    assert set(card_schema()["$defs"][long["$ref"].rsplit("/", 1)[-1]]["properties"]) == {
        "id",
        "revision",
        "layers",
        "adapters",
    }
