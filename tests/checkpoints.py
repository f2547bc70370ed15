"""Makes tiny checkpoints of Hugging Face's image classifiers, offline."""

import json
import os

import torch

from efflab.cards.hugging_face.checkpoint import HuggingFace, open_checkpoint
from efflab.foundation.config import parse_yaml

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
NAMES = ("vit", "resnet", "mobilenet")


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


def checkpoint(folder):
    document = parse_yaml("model: {hf: x}", folder / "card.yaml")
    return open_checkpoint(HuggingFace(id=str(folder)), document)


def change(path, **changed):
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), **changed}))
