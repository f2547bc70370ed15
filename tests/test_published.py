"""The public CIFAR-10 ResNets, brought by cards: their published accuracies must come out to the digit."""

import os
from pathlib import Path

import pytest

from efflab.cards.baseline import load_baseline
from efflab.foundation.files import file_digest
from efflab.training.train_card import score

DATA = Path(os.environ.get("EFFLAB_DATA", "/nonexistent"))
PUBLISHED = {"resnet20": (3, 269_722, 827), "resnet32": (5, 464_154, 737), "resnet56": (9, 853_018, 661)}
NET = """
from efflab.models.resnet_cifar import resnet_cifar

def build(blocks):
    return resnet_cifar(16, blocks, shortcut="A")
"""

needs_data = pytest.mark.skipif(
    not (DATA / "cifar10_resnets").is_dir() or not (DATA / "cifar10").is_dir(),
    reason="needs EFFLAB_DATA with cifar10/ and cifar10_resnets/",
)


@needs_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_accuracy_comes_out_to_the_digit(name, tmp_path):
    blocks, params, wrong = PUBLISHED[name]
    weights = DATA / "cifar10_resnets" / f"{name}.safetensors"
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / f"{name}.yaml").write_text(
        f"name: {name}\ntask: {{cifar10: {{}}}}\npython: {{file: net.py, function: build, settings: {{blocks: {blocks}}}}}\n"
        f"weights: [{{file: {weights}, sha256: {file_digest(weights)}}}]\n"
    )
    baseline = load_baseline(tmp_path / f"{name}.yaml")
    module = baseline.module(0)
    assert sum(parameter.numel() for parameter in module.parameters()) == params
    assert round((1 - score(module, baseline.task)) * 10_000) == wrong
