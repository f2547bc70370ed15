"""Cards of Hugging Face's image classifiers: they are exported, quantised and measured, and what does not fit is said first."""

import json
import os
import shutil

import numpy as np
import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")

import onnx
import onnxruntime
import torch
from worlds import TINY_TASK, efflab

import efflab as lab
from efflab import hugging_face, registry
from efflab.baseline import load_baseline
from efflab.config import parse_yaml
from efflab.errors import RequestError, Unavailable
from efflab.hugging_face import CONFIG, PREPROCESSOR, WEIGHTS, HuggingFace, open_checkpoint
from efflab.hugging_face_export import export_checkpoint
from efflab.hugging_face_fit import conversion, misfits
from efflab.recipe import load_recipe
from efflab.schema import card_schema
from efflab.stages import run_baseline
from efflab.task import Task
from efflab.tasks.cifar10 import Cifar10
from efflab.tasks.digits_clutter import DigitsClutter

BUDGET = "min_runs: 11, min_seconds: 0.001, max_seconds: 0.002, rounds: 5, threads: 1, controls: false"
NAMES = ("vit", "resnet", "mobilenet")
QUANTIZED = "{s: [{quantize_static: {calibration_examples: 32}}], d: [{quantize_dynamic: {}}]}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def configuration(name, **changed):
    from transformers import MobileNetV2Config, ResNetConfig, ViTConfig

    common = {"num_channels": 1, "num_labels": 10}
    kinds = {
        "vit": (
            ViTConfig,
            {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
            | {"image_size": 24, "patch_size": 4},
        ),
        "resnet": (
            ResNetConfig,
            {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        ),
        "mobilenet": (MobileNetV2Config, {"depth_multiplier": 0.1, "image_size": 24, "finegrained_output": False}),
    }
    kind, settings = kinds[name]
    return kind(**{**common, **settings, **changed})


def save(folder, name, **changed):
    """Write a checkpoint of seeded weights, large enough that logits of different images differ."""
    from transformers import AutoModelForImageClassification

    torch.manual_seed(0)
    module = AutoModelForImageClassification.from_config(configuration(name, **changed)).eval()
    with torch.no_grad():
        for one in module.parameters():
            if one.ndim > 1:
                one.normal_(std=1.4 / one[0].numel() ** 0.5)
    module.save_pretrained(folder)
    return module


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with a checkpoint of each kind, and the modules that were saved."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, {name: save(folder / name, name) for name in NAMES}


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


def checkpoint(folder):
    document = parse_yaml("model: {hf: x}", folder / "card.yaml")
    return open_checkpoint(HuggingFace(id=str(folder)), document)


def said(folder):
    with pytest.raises(RequestError) as caught:
        load_recipe(write_recipe(folder))
    return [str(problem) for problem in caught.value.problems]


def change(path, **changed):
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), **changed}))


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
    import subprocess
    import sys

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
    spec = {"card": str(vit), "seed": 0, "content": load_baseline(vit).content(0)}
    change(in_folder / "baselines" / "net" / CONFIG, layer_norm_eps=1e-6)
    with pytest.raises(RequestError, match="the model of mine has changed since the plan was made; plan again"):
        run_baseline(spec, [], in_folder, lambda *_: None)


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


def test_what_only_the_model_knows_is_found_by_its_stage(saved, tmp_path):
    folder = tmp_path / "net"
    save(folder, "vit", image_size=32, num_labels=3)
    task = DigitsClutter(train=16, validation=16, test=16)
    with pytest.raises(RequestError, match="does not take what the task gives .1x24x24.: ValueError: Input image size"):
        export_checkpoint(checkpoint(folder), task, tmp_path / "model.onnx")
    save(folder, "resnet", num_labels=3)
    with pytest.raises(RequestError, match="gives 3 logits for an image, the task has 10 classes"):
        export_checkpoint(checkpoint(folder), task, tmp_path / "model.onnx")


def test_weights_without_the_head_are_refused_not_made_up(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(saved[0] / "vit", tmp_path / "net")
    path = tmp_path / "net" / WEIGHTS
    save_file({key: one for key, one in load_file(path).items() if "classifier" not in key}, path, {"format": "pt"})
    with pytest.raises(RequestError, match="lack classifier.bias, classifier.weight, which would be random numbers"):
        export_checkpoint(checkpoint(tmp_path / "net"), DigitsClutter(train=16), tmp_path / "model.onnx")


def test_code_that_comes_with_a_model_is_not_run(saved, tmp_path):
    shutil.copytree(saved[0] / "vit", tmp_path / "net")
    names = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    change(tmp_path / "net" / CONFIG, model_type="strange", auto_map=names)
    (tmp_path / "net" / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    with pytest.raises(RequestError, match="transformers cannot load .*trust_remote_code"):
        export_checkpoint(checkpoint(tmp_path / "net"), DigitsClutter(train=16), tmp_path / "model.onnx")
    assert not (tmp_path / "mark").exists()


def test_sixteen_bits_become_float32(saved, tmp_path):
    half = save(tmp_path / "net", "vit").half()
    half.save_pretrained(tmp_path / "net")
    export_checkpoint(checkpoint(tmp_path / "net"), DigitsClutter(train=16), tmp_path / "model.onnx")
    kinds = {one.data_type for one in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT in kinds
    assert onnx.TensorProto.FLOAT16 not in kinds


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
        (net / hugging_face.INDEX).write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
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


def test_shards_are_read(saved, in_folder):
    saved[1]["vit"].save_pretrained(in_folder / "net", max_shard_size="40KB")
    assert len(checkpoint(in_folder / "net").weights) > 1
    export_checkpoint(checkpoint(in_folder / "net"), DigitsClutter(train=16), in_folder / "model.onnx")


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
    find = hugging_face.importlib.util.find_spec
    monkeypatch.setattr(
        hugging_face.importlib.util, "find_spec", lambda name, *_: None if name == "transformers" else find(name)
    )
    (found,) = said(in_folder)
    line = 'models of Hugging Face need transformers: pip install "efflab[hf]"'
    assert found == f"baselines/mine.yaml:3: model.hf: {line}"
    with pytest.raises(Unavailable, match="need transformers: pip install"):
        export_checkpoint(checkpoint(saved[0] / "vit"), DigitsClutter(train=16), in_folder / "model.onnx")


def test_pixels_are_converted_to_what_the_model_was_trained_on(saved, tmp_path):
    task = DigitsClutter(train=16, validation=16, test=16)
    shutil.copytree(saved[0] / "vit", tmp_path / "net")
    change(tmp_path / "net" / PREPROCESSOR, image_mean=[0.5] * 3, image_std=[0.25] * 3, rescale_factor=1 / 255)
    export_checkpoint(checkpoint(tmp_path / "net"), task, tmp_path / "model.onnx")
    images = task.split("validation").inputs[0]
    pixels = images * task.deviation[0] + task.mean[0]
    with torch.no_grad():
        wanted = saved[1]["vit"](torch.from_numpy((pixels - 0.5) / 0.25)).logits.numpy()
    (logits,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"pixel_values": images})
    np.testing.assert_allclose(logits, wanted, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("told", "scale"),
    [
        ({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}, 1),
        ({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.5] * 3}, 0.229 / 0.5),
        ({"do_normalize": False}, 0.229),
        ({"do_normalize": False, "do_rescale": False}, 0.229 * 255),
        ({"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "rescale_factor": 2 / 255}, 0.229 * 2),
        ({"image_mean": [0.1, 0.2], "image_std": [1, 1]}, None),
        ({"image_mean": "IMAGENET", "image_std": [0, 0, 0]}, None),
        ({}, None),
    ],
)
def test_how_pixels_were_normalised_is_read_or_said_to_be_unclear(saved, tmp_path, told, scale):
    shutil.copytree(saved[0] / "vit", tmp_path / "net")
    change(tmp_path / "net" / PREPROCESSOR, **told)
    change_ = conversion(checkpoint(tmp_path / "net"), Cifar10())
    assert (change_ and change_.scale[0]) == (scale if scale is None else pytest.approx(scale))
    assert scale != 1 or change_.nothing()


def test_no_plug_in_may_take_the_name(in_folder, monkeypatch):
    (in_folder / "plugins" / "models").mkdir(parents=True)
    (in_folder / "plugins" / "models" / "hf.py").write_text("def hf():\n    pass\n")
    monkeypatch.setenv("EFFLAB_PLUGINS", "plugins")
    registry.sources.cache_clear()
    assert "no plug-in may be named 'hf'" in registry.working("models")[1]["hf"]


def test_the_schema_knows_both_forms():
    model = card_schema()["properties"]["model"]["anyOf"][0]
    short, long = model["properties"]["hf"]["anyOf"]
    assert short["type"] == "string"
    assert set(card_schema()["$defs"][long["$ref"].rsplit("/", 1)[-1]]["properties"]) == {"id", "revision"}
