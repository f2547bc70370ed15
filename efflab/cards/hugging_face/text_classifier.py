"""Classifiers of texts from Hugging Face's encoders: a checkpoint with its own head, or an encoder with a new one to be trained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from efflab.cards.hugging_face.checkpoint import Checkpoint, HuggingFace, lacking
from efflab.contracts.tokenizer import Tokenizer
from efflab.foundation.errors import Unavailable

if TYPE_CHECKING:
    import torch

    from efflab.contracts.text_task import TextTask

PACKAGES = ("transformers",)
CLASSIFIER = "ForSequenceClassification"
LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")  # names of their number in configurations


def configuration_of(checkpoint: Checkpoint, settings: HuggingFace, task: TextTask) -> dict[str, Any]:
    """Return the configuration of a card's classifier: the checkpoint's, with the task's classes and the card's layers."""
    config = {key: value for key, value in checkpoint.config.items() if key not in ("_name_or_path", "architectures")}
    config["id2label"] = {str(place): name for place, name in enumerate(task.class_names)}
    config["label2id"] = {name: place for place, name in enumerate(task.class_names)}
    config.pop("num_labels", None)
    if settings.layers is not None:
        config[_layers_key(config)] = settings.layers
    return config


def _layers_key(config: dict[str, Any]) -> str:
    return next((key for key in LAYERS if key in config), LAYERS[0])


def text_misfits(checkpoint: Checkpoint, settings: HuggingFace, task: TextTask, trained: bool) -> list[str]:
    """Return a sentence for each thing in which a checkpoint does not fit the task.

    trained: the card trains the model, or has weights of its own, so that the checkpoint needs no head.
    """
    config, found = checkpoint.config, list[str]()
    if "quantization_config" in config:
        found.append("the model is quantised already; give the float one")
    told = config.get("architectures")
    named = [str(one) for one in told] if isinstance(told, list) else []
    if not trained and named and not any(CLASSIFIER in one for one in named):
        what = f"config.json says {', '.join(named)}, which has no head for classes (...{CLASSIFIER})"
        found.append(f"{what}; give the card a `training` section and run `efflab train`")
    elif not trained:
        found += _class_misfits(config, task)
    own = config.get(_layers_key(config))
    if settings.layers and isinstance(own, int) and settings.layers > own:
        found.append(f"`layers` is {settings.layers}, and the model has {own} layers")
    return found or _token_misfits(checkpoint, task)


def _class_misfits(config: dict[str, Any], task: TextTask) -> list[str]:
    ours, told = task.class_names, config.get("id2label")
    count = config.get("num_labels", len(told) if isinstance(told, dict) and told else 2)
    if count != len(ours):
        return [f"the model tells {count} classes apart, the data has {len(ours)} labels ({', '.join(ours[:8])})"]
    if not isinstance(told, dict):
        return []
    theirs = class_names_of(config)
    plain = [[one.lower() for one in names] for names in (ours, theirs)]
    if plain[0] == plain[1] or not theirs:
        return []
    if sorted(plain[0]) == sorted(plain[1]):
        named = {one.lower(): one for one in ours}
        order = ", ".join(named[one.lower()] for one in theirs)
        return [f"the model's classes stand in another order than the data's labels; write `labels: [{order}]`"]
    if task.order_is_stated:
        return []
    what = f"the model's classes are {', '.join(theirs[:8])}, the data's labels {', '.join(ours[:8])}"
    return [
        f"{what}; say which label is which class: write `labels: [...]` under the task, in the order of the model's"
    ]


def class_names_of(config: dict[str, Any]) -> list[str]:
    """Return the names that a checkpoint gives its classes, in their order; [] where it has none but numbers."""
    told = config.get("id2label")
    if not isinstance(told, dict) or not all(str(key).isdigit() for key in told):
        return []
    names = [str(told[key]) for key in sorted(told, key=int)]
    return [] if all(re.fullmatch(r"(LABEL_)?\d+", name, re.IGNORECASE) for name in names) else names


def _token_misfits(checkpoint: Checkpoint, task: TextTask) -> list[str]:
    tokenizer, own = task.own_tokenizer, Tokenizer(checkpoint.folder)
    known, limit = checkpoint.config.get("vocab_size"), own.most_tokens
    if isinstance(known, int) and tokenizer.size > known:
        what = f"the tokenizer in {tokenizer.folder} gives numbers up to {tokenizer.size - 1}, the model knows {known} tokens"
        return [f"{what}: it does not belong to this model"]
    if tokenizer.folder.resolve() != checkpoint.folder.resolve() and own.here():
        other = sum(own.vocabulary().get(token) != number for token, number in tokenizer.vocabulary().items())
        if other:
            what = f"the tokenizer in {tokenizer.folder} gives {other:,} tokens other numbers than the model's own"
            return [f"{what}: it does not belong to this model; take `tokenizer` out of the card"]
    if limit is not None and task.longest > limit:
        return [f"`max_tokens` of the task is {task.longest}, and the model takes texts of at most {limit} tokens"]
    return []


def fresh_text_classifier(
    checkpoint: Checkpoint, settings: HuggingFace, task: TextTask, trained: bool
) -> torch.nn.Module:
    """Return the classifier with the checkpoint's weights, in float32, and what is to be trained beside them.

    trained: a head that the checkpoint lacks is made new, by PyTorch's random numbers. Raises RequestError for weights that
    do not load or are not all there, Unavailable without transformers.
    """
    from efflab.artefacts.text_encoders import TextClassifier, configuration
    from efflab.cards.hugging_face.adapters import add_adapters
    from efflab.cards.hugging_face.loading import load_pretrained
    from efflab.foundation.quiet import quiet

    if lacking(PACKAGES):
        raise Unavailable(lacking(PACKAGES))

    def new(inner: Any, name: str) -> bool:
        return trained and not _is_body(name, f"{inner.base_model_prefix}.")

    with quiet():
        config = configuration(configuration_of(checkpoint, settings, task))
        # a head for other classes has another size
        more = {"config": config, "ignore_mismatched_sizes": trained}
        module = TextClassifier(load_pretrained("AutoModelForSequenceClassification", checkpoint, new, **more))
    if settings.adapters and trained:
        add_adapters(module, settings.adapters, head_of(module))
    return module


def head_of(module: torch.nn.Module) -> tuple[str, ...]:
    """Return the names under which a classifier's head stands: all parts but the encoder, and a pooler inside of it."""
    inner: Any = module.inner
    inside = inner.base_model_prefix
    heads = [f"inner.{name}" for name, _ in inner.named_children() if name != inside]
    body = getattr(inner, inside)
    return (*heads, *(f"inner.{inside}.{name}" for name, _ in body.named_children() if name == "pooler"))


def _is_body(name: str, inside: str) -> bool:
    """Say whether a weight belongs to the encoder itself; heads, and poolers before them, are trained anew."""
    return name.startswith(inside) and ".pooler." not in f".{name}"
