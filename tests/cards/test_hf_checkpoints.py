"""Checkpoints of Hugging Face become graphs that compute the same, from safetensors alone, or are refused with the reason."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoints import change, checkpoint, save

from efflab.cards.hugging_face.checkpoint import CONFIG, PREPROCESSOR, WEIGHTS
from efflab.cards.hugging_face.export import export_checkpoint
from efflab.cards.hugging_face.fit import conversion
from efflab.foundation.errors import RequestError
from efflab.tasks.cifar10 import Cifar10
from efflab.tasks.digits_clutter import DigitsClutter

pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")


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


def test_shards_are_read(saved, in_folder):
    saved[1]["vit"].save_pretrained(in_folder / "net", max_shard_size="40KB")
    assert len(checkpoint(in_folder / "net").weights) > 1
    export_checkpoint(checkpoint(in_folder / "net"), DigitsClutter(train=16), in_folder / "model.onnx")


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
