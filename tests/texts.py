"""Tiny encoders of texts, their tokenizer, and files of labelled sentences that they can learn."""

import json
import random

GOOD, BAD = ["good", "fine", "nice", "great", "happy"], ["bad", "poor", "sad", "awful", "dull"]
WORDS = [*GOOD, *BAD, "film", "story", "actor", "plot", "scene", "the", "a", "was", "is", "very"]


def sentences(count, seed=0):
    """Different sentences of 3 to 12 words with their label: which kind of words is in them."""
    draw, found = random.Random(seed), {}
    while len(found) < count:
        label = draw.choice(("neg", "pos"))
        words = draw.choices(WORDS[10:], k=draw.randint(2, 11))
        words.insert(draw.randrange(len(words)), draw.choice(GOOD if label == "pos" else BAD))
        found[" ".join(words)] = label
    return list(found.items())


def write_csv(path, rows):
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")


def write_data(folder, train=160, validation=40, test=60):
    """Write train.csv, dev.jsonl and test.tsv, one kind of file each."""
    rows = sentences(train + validation + test)
    write_csv(folder / "train.csv", rows[:train])
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows[train : train + validation]]
    (folder / "dev.jsonl").write_text("\n".join(lines) + "\n")
    rest = "".join(f"{text}\t{label}\n" for text, label in rows[train + validation :])
    (folder / "test.tsv").write_text("text\tlabel\n" + rest)


def write_tokenizer(folder, words=WORDS):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    numbers = {word: place for place, word in enumerate([*special, *words])}
    own = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    own.normalizer, own.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    ends = [("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    own.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    folder.mkdir(parents=True, exist_ok=True)
    own.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    return len(numbers)


def write_encoder(folder, kind="bert", head=False, classes=2, **changes):
    """Save a tiny encoder with random weights, its tokenizer beside it."""
    import torch
    import transformers

    size = write_tokenizer(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
    if kind == "distilbert":
        shape = {"dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 32}
    more = {"vocab_size": size, "max_position_embeddings": 64, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(kind, **shape, **more, num_labels=classes, **changes)
    kinds = transformers.AutoModelForSequenceClassification if head else transformers.AutoModel
    kinds.from_config(config).save_pretrained(str(folder), safe_serialization=True)
    return folder


def write_card(folder, name="reviews", model="hf: {id: ../encoder}", task="", training=True):
    """Write a card on the files of `write_data`."""
    (folder / "baselines").mkdir(exist_ok=True)
    training = "training: {epochs: 8, learning_rate: 0.01, batch_size: 16, optimizer: adamw}\n" if training else ""
    files = "train: ../train.csv, validation: ../dev.jsonl, test: ../test.tsv"
    path = folder / "baselines" / f"{name}.yaml"
    path.write_text(
        f"name: {name}\ntask: {{text_classification: {{{files}, max_tokens: 32{', ' + task if task else ''}}}}}\n"
        f"model: {{{model}}}\n{training}"
    )
    return path
