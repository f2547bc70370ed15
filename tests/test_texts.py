"""Texts of one's own with an encoder of Hugging Face: trained, compressed, exported, measured; and what is wrong is said first."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from texts import sentences, write_card, write_csv, write_data, write_encoder, write_tokenizer
from worlds import efflab

import efflab as lab
from efflab.artefacts.artefact import Artefact
from efflab.cards.baseline import load_baseline
from efflab.contracts.examples import quality_batch
from efflab.contracts.module_session import ModuleSession
from efflab.foundation.errors import RequestError
from efflab.model_surgery.pruning.attention_heads import attention_layers
from efflab.profiling.quality import evaluate
from efflab.recipe.recipe import load_recipe

pytest.importorskip("transformers")

MEASURE = (
    "measure: {backends: [torch, onnxruntime, openvino], batch_sizes: [1], seeds: [0], min_runs: 11,"
    " min_seconds: 0.001, max_seconds: 0.005, rounds: 5, processes: 1, threads: 1, controls: false}\n"
)
VARIANTS = """
variants:
  dynamic: [{export_onnx: {}}, {quantize_dynamic: {}}]
  static: [{export_onnx: {}}, {quantize_static: {calibration_examples: 32}}]
  split: [{low_rank: {energy: 0.5}}]
  half: [{cast: {dtype: float16}}]
  heads: [{prune_heads: {ratio: 0.5, calibration_examples: 32}}, {distill: {epochs: 1, batch_size: 16}}]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data and an encoder without a head."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EFFLAB_DATA", str(tmp_path / "nowhere"))
    write_data(tmp_path)
    write_encoder(tmp_path / "encoder")
    return tmp_path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A card that was trained, with every technique that texts need, on three backends."""
    folder = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data(folder)
        write_encoder(folder / "encoder")
        card = write_card(folder)
        assert efflab("train", "reviews", cwd=folder).returncode == 0
        (folder / "mine.yaml").write_text(f"name: mine\nbaseline: reviews{VARIANTS}{MEASURE}")
        return lab.run_recipe(folder / "mine.yaml", workers=2), folder, load_baseline(card)


def by_name(study, variant, backend):
    return next(one for one in study["records"] if (one["variant"], one["backend"]) == (variant, backend))


def test_every_technique_and_backend_gives_a_row(study):
    records = study[0]["records"]
    lacking = {(one["variant"], one["backend"], one["reason"]) for one in records if one["status"] == "failed"}
    assert not lacking
    done = {(one["variant"], one["backend"]) for one in records if one["status"] == "ok"}
    modules = {"reviews", "heads", "split", "half"}
    assert done >= {(name, "torch") for name in modules}
    assert done >= {
        (name, backend) for name in modules | {"dynamic", "static"} for backend in ("onnxruntime", "openvino")
    }


def test_the_score_is_that_of_the_bare_model(study):
    record, baseline = by_name(study[0], "reviews", "torch"), study[2]
    module, split = baseline.module(0), baseline.task.split("test")
    hits = []
    for place in range(len(split)):  # one by one: no padding at all
        batch = split.batch([place])
        with torch.no_grad():
            logits = module(*(torch.from_numpy(array) for array in batch.inputs))
        hits.append(int(logits.argmax()) == batch.targets[0])
    assert record["quality"]["value"] == pytest.approx(np.mean(hits), abs=1e-6)
    assert record["quality"]["value"] > 0.8  # it has learnt which words are good


def test_scores_stand_in_the_order_of_the_split_whatever_the_lengths(study):
    task = study[2].task
    split, session = task.split("test"), ModuleSession(study[2].module(0), torch.float32)
    one_by_one = evaluate(session, task, split, 1)
    assert (evaluate(session, task, split, 7) == one_by_one).all()
    assert (evaluate(session, task, split, quality_batch(task, split)) == one_by_one).all()


def test_pruned_heads_shrink_and_the_work_is_counted_at_the_middle_length(study):
    whole, pruned = (by_name(study[0], name, "torch")["work"] for name in ("reviews", "heads"))
    assert pruned["macs"] < whole["macs"]
    assert pruned["params"] < whole["params"]
    onnx_work = by_name(study[0], "reviews", "onnxruntime")["work"]
    assert onnx_work["macs"] == pytest.approx(whole["macs"], rel=0.02)


def test_times_go_over_texts_of_several_lengths(study):
    latency = by_name(study[0], "reviews", "onnxruntime")["latency"]
    assert latency["inputs"] >= 4


def test_an_exported_graph_takes_any_length_by_its_names(study):
    graphs = list(study[1].rglob("model.onnx"))
    session = onnxruntime.InferenceSession(str(graphs[0]), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    for length in (2, 5, 31):
        feed = {one.name: np.ones((3, length), np.int64) for one in session.get_inputs()}
        assert session.run(None, feed)[0].shape == (3, 2)


def test_a_stored_encoder_needs_neither_card_nor_checkpoint(study, tmp_path):
    from efflab.artefacts.artefact import save_module

    baseline = study[2]
    save_module(baseline.module(0), baseline.builder(), [], tmp_path / "kept")
    inputs = [torch.from_numpy(array) for array in baseline.task.split("test").batch(range(3)).inputs]
    again = Artefact.open(tmp_path / "kept").module()
    assert torch.equal(again(*inputs), baseline.module(0)(*inputs))
    assert str(study[1]) not in (tmp_path / "kept" / "artefact.json").read_text()


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "electra"])
def test_other_encoders_lose_heads_and_are_rebuilt(kind, place, tmp_path):
    from efflab.techniques.prune_heads import PruneHeads, prune_heads

    write_encoder(place / kind, kind, head=True, id2label={0: "neg", 1: "pos"})
    card = write_card(place, kind, f"hf: {{id: ../{kind}}}", training=False)
    baseline = load_baseline(card)
    whole, inputs = baseline.module(0), baseline.task.split("validation").batch(range(4)).inputs
    structure = prune_heads(baseline.module(0), 0.5, "l2")
    assert len(structure) == 3
    smaller, silenced = PruneHeads.rebuild(baseline.module(0), structure), baseline.module(0)
    with torch.no_grad():  # a head that is not there is a head whose part of the joined outputs counts nothing
        for name, layer in attention_layers(silenced).items():
            for head in set(range(4)) - set(structure[name]):
                layer.out.weight[:, head * layer.size : (head + 1) * layer.size] = 0
        arrays = [torch.from_numpy(array) for array in inputs]
        assert torch.allclose(smaller(*arrays), silenced(*arrays), atol=1e-6)
        assert not torch.allclose(smaller(*arrays), whole(*arrays), atol=1e-6)
    outputs = [one(*(torch.from_numpy(array) for array in inputs)) for one in (whole, smaller)]
    assert outputs[0].shape == outputs[1].shape == (4, 2)
    count = [sum(one.numel() for one in module.parameters()) for module in (whole, smaller)]
    assert count[1] == count[0] - 3 * (3 * (2 * 4 * 16 + 2 * 4) + 16 * 2 * 4)  # two of four heads: q, k, v, out


def test_adapters_leave_the_checkpoint_alone_and_their_file_is_small(place):
    card = write_card(place, model="hf: {id: ../encoder, adapters: 2, layers: 2}")
    assert efflab("train", "reviews", cwd=place).returncode == 0
    baseline = load_baseline(card)
    module, fresh = baseline.module(0), baseline.fresh()
    assert not any("parametrizations" in name for name in module.state_dict())
    assert len(module.inner.bert.encoder.layer) == 2
    word = "inner.bert.embeddings.word_embeddings.weight"
    assert torch.equal(module.state_dict()[word], fresh.state_dict()[word])
    query = "bert.encoder.layer.0.attention.self.query"
    adapter = fresh.inner.get_submodule(query).parametrizations.weight
    stored = load_file(str(baseline.beside("reviews-s0.safetensors")))
    assert word not in stored
    down, up = (stored[f"inner.{query}.parametrizations.weight.0.{part}"].float() for part in ("down", "up"))
    wanted = adapter.original + 2.0 * (up @ down)
    assert torch.allclose(module.inner.get_submodule(query).weight, wanted, atol=1e-6)


# what is wrong with files and models is one clear sentence, before any work


def told(place):
    (place / "mine.yaml").write_text(f"name: mine\nbaseline: reviews\n{MEASURE}")
    with pytest.raises(RequestError) as error:
        lab.plan_recipe(place / "mine.yaml")
    return str(error.value)


def trained(place, task="", **more):
    write_encoder(place / "encoder", head=True, id2label={0: "neg", 1: "pos"})
    return write_card(place, task=task, training=False, **more)


def test_a_whole_checkpoint_needs_no_training_and_a_mistake_ends_with_2(place):
    trained(place)
    (place / "mine.yaml").write_text(f"name: mine\nbaseline: reviews\n{MEASURE}")
    assert efflab("plan", "mine.yaml", cwd=place).returncode == 0
    (place / "train.csv").write_text("text,lable\na,neg\n")
    result = efflab("plan", "mine.yaml", cwd=place)
    assert result.returncode == 2
    assert "train.csv:1: the header names no column 'label'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        (
            "train.csv",
            "text,lable\na,neg\n",
            "train.csv:1: the header names no column 'label' (text, lable); did you mean",
        ),
        ("train.csv", "text,label\ngood,pos\nbad\n", "train.csv:3: the line has too few fields: 1 of 2"),
        ("train.csv", 'text,label\n"good,pos\n', "train.csv:2: the line cannot be read as CSV"),
        ("train.csv", "text,label\ngood,pos\n  ,neg\n", "train.csv:3: the text is empty"),
        ("train.csv", "text,label\ngood,pos\nbad,\n", "train.csv:3: the label is empty"),
        (
            "train.csv",
            "text;label\na;neg\n",
            "train.csv:1: the fields are parted by semicolons; write the file with commas",
        ),
        ("train.csv", "text,label\na,b,neg\n", "train.csv:2: the line has too many fields: 3, the header has 2"),
        ("train.csv", "text,label\n", "train.csv: the file holds no examples"),
        ("train.csv", "", "train.csv: the file holds no examples"),
        (
            "dev.jsonl",
            '{"text": "good", "label": "pos"}\n{"text": 3, "label": "neg"}\n',
            "dev.jsonl:2: text must be a text",
        ),
        (
            "dev.jsonl",
            '{"txt": "good", "label": "pos"}\n',
            "dev.jsonl:1: the object has no 'text' (txt, label); did you",
        ),
        ("dev.jsonl", '{"text": "good", "label": "pos"\n', "dev.jsonl:1: the line is no JSON"),
        ("dev.jsonl", "[1]\n", "dev.jsonl:1: the line holds no JSON object"),
        (
            "test.tsv",
            "text\tlabel\ngood\tmeh\n",
            "test.tsv:2: the label 'meh' occurs in the test split only (neg, pos)",
        ),
    ],
)
def test_a_file_with_a_mistake_is_told_its_line(place, file, content, line):
    trained(place)
    (place / file).write_text(content)
    assert line in told(place)


def test_mixed_encodings_are_told_the_line(place):
    trained(place)
    (place / "train.csv").write_bytes(b"text,label\ngute Idee,pos\n" + "schöner Film,pos\n".encode("latin-1"))
    assert "train.csv:3: the file is not UTF-8 from here on (byte 0xf6)" in told(place)
    (place / "train.csv").write_text("text,label\ngood,pos\n", encoding="utf-16")
    assert "save it as UTF-8" in told(place)


def test_texts_in_two_splits_are_refused_or_dropped(place):
    rows = sentences(40, seed=5)
    write_csv(place / "train.csv", rows)
    (place / "test.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows[10:20]))
    trained(place)
    assert "train.csv:12: this text and 9 more is in the test split too" in told(place)
    card = trained(place, task="duplicates: drop")
    task = load_baseline(card).task
    task.digest()
    assert len(task.split("train")) == 30
    assert any("10 texts" in note for note in load_recipe(place / "mine.yaml").notes)


def test_an_unknown_label_is_named(place):
    trained(place, task='labels: ["neg", "other"]')
    assert "the label 'pos' is not among `labels` (neg, other)" in told(place)


def test_labels_in_another_order_than_the_model_has_them(place):
    write_encoder(place / "encoder", head=True, id2label={0: "POS", 1: "NEG"})
    write_card(place, training=False)
    assert "write `labels: [pos, neg]`" in told(place)
    write_encoder(place / "encoder", head=True, classes=3)
    assert "the model tells 3 classes apart, the data has 2 labels (neg, pos)" in told(place)


def test_a_tokenizer_that_does_not_belong_to_the_model(place):
    write_tokenizer(place / "other", words=[*["good", "bad", "fine"], *(f"w{n}" for n in range(60))])
    trained(place, task="tokenizer: ../other")
    assert "gives numbers up to 66, the model knows 24 tokens: it does not belong to this model" in told(place)
    write_tokenizer(place / "other", words=["film", "good", "bad"])
    assert "tokens other numbers than the model's own" in told(place)
    trained(place, task="tokenizer: ../nothing")
    assert "the folder ../nothing is missing" in told(place)


def test_an_encoder_without_a_head_wants_training(place):
    write_card(place, training=False)
    assert "has no head for classes" in told(place)
    write_card(place)
    assert "`efflab train reviews` makes them" in told(place)


def test_a_text_that_is_longer_than_the_model_takes(place):
    trained(place, task="")
    card = place / "baselines" / "reviews.yaml"
    card.write_text(card.read_text().replace("max_tokens: 32", "max_tokens: 100"))
    assert "`max_tokens` of the task is 100, and the model takes texts of at most 64 tokens" in told(place)


def test_a_text_is_cut_to_what_the_model_takes_where_the_card_says_nothing(place):
    card = trained(place)
    card.write_text(card.read_text().replace(", max_tokens: 32", ""))
    assert load_baseline(card).task.longest == 64  # the usual 128 are more than this model takes


def test_class_names_that_match_no_label_want_an_order(place):
    write_encoder(place / "encoder", head=True, id2label={0: "up", 1: "down"})
    card = write_card(place, training=False)
    assert "the model's classes are up, down, the data's labels neg, pos; say which label is which class" in told(place)
    write_card(place, task="labels: [pos, neg]", training=False)
    assert load_baseline(card).task.class_names == ["pos", "neg"]
    assert load_recipe(place / "mine.yaml").baselines
    write_encoder(place / "encoder", head=True)  # LABEL_0, LABEL_1
    write_card(place, training=False)
    assert any("they are taken as 0 is neg, 1 is pos" in note for note in load_recipe(place / "mine.yaml").notes)


def test_a_tokenizer_that_knows_few_of_the_words_is_noted(place):
    trained(place)
    assert not any("does not know" in note for note in load_baseline(place / "baselines" / "reviews.yaml").task.notes())
    write_tokenizer(place / "encoder", words=[f"w{number}" for number in range(20)])
    notes = load_baseline(place / "baselines" / "reviews.yaml").task.notes()
    assert any("the tokenizer does not know" in note for note in notes)


def test_buckets_that_do_not_ascend(place):
    trained(place, task="padding: {buckets: [16, 8]}")
    assert "buckets must ascend" in told(place)
    trained(place, task="padding: {buckets: [8, 16], fixed: 16}")
    assert "give either fixed or buckets" in told(place)


def test_a_graph_with_fewer_inputs_is_told_how_to_leave_one_out(place):
    from onnx import TensorProto, helper, save

    names = ("attention_mask", "input_ids")
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"]) for name in names]
    nodes = [helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])
    card = trained_on_graph(place, helper.make_graph(nodes, "g", values, [out]), save, helper)
    assert "it has no token_type_ids: leave that out with `inputs` in the task's settings" in told(place)
    card.write_text(card.read_text().replace("tokenizer:", "inputs: [input_ids, attention_mask], tokenizer:"))
    assert lab.plan_recipe(place / "mine.yaml").rows


def trained_on_graph(place, graph, save, helper):
    write_encoder(place / "encoder")
    card = write_card(place, task="tokenizer: ../encoder", training=False)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), place / "baselines" / "net.onnx")
    card.write_text(card.read_text().replace("model: {hf: {id: ../encoder}}", "onnx: net.onnx"))
    return card


def test_image_models_take_no_layers_and_no_training(place):
    path = place / "baselines" / "net.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("name: net\ntask: {digits_clutter: {}}\nmodel: {hf: {id: ../encoder, layers: 2}}\n")
    with pytest.raises(RequestError, match=r"net.yaml:3: model.hf.layers: is for encoders of texts only"):
        load_baseline(path)


PYTHON = """
import transformers


def build():
    config = transformers.BertConfig(vocab_size=24, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    return transformers.BertForSequenceClassification(config)


class Swapped(transformers.BertForSequenceClassification):
    def forward(self, attention_mask, input_ids, token_type_ids=None):
        return super().forward(input_ids, attention_mask, token_type_ids)


def swapped():
    return Swapped(build().config)
"""


@pytest.mark.parametrize("function", ["build", "swapped"])
def test_a_module_of_ones_own_must_take_the_inputs_in_their_order(place, function):
    (place / "baselines").mkdir()
    (place / "baselines" / "net.py").write_text(PYTHON)
    card = write_card(place, task="tokenizer: ../encoder", model="hf: {id: ../encoder}", training=False)
    text = card.read_text().replace("model: {hf: {id: ../encoder}}", f"python: {{file: net.py, function: {function}}}")
    card.write_text(text + "training: {epochs: 0.1, batch_size: 16}\n")
    result = efflab("train", "reviews", cwd=place)
    if function == "build":
        assert result.returncode == 0, result.stderr
        weights = next((place / "baselines").glob("*.safetensors"))
        assert "bert.encoder.layer.0.attention.self.query.weight" in load_file(str(weights))
    else:
        assert result.returncode == 2
        assert "forward takes attention_mask, input_ids, token_type_ids" in result.stderr
        assert "the task gives input_ids, attention_mask, token_type_ids, in this order" in result.stderr


def test_one_file_is_split_by_the_hash_of_its_texts(place):
    rows = sentences(200, seed=3)
    write_csv(place / "all.csv", [*rows, *rows[:5]])
    write_encoder(place / "encoder", head=True, id2label={0: "neg", 1: "pos"})
    card = write_card(place, training=False)
    text = card.read_text()
    card.write_text(text[: text.index("{train:")] + "{data: ../all.csv}}\n" + text[text.index("model:") :])
    task = load_baseline(card).task
    task.digest()
    sizes = {name: len(task.split(name)) for name in task.splits()}
    assert sum(sizes.values()) == 205
    assert sizes["test"] == pytest.approx(41, abs=20)
    write_csv(place / "all.csv", [*rows, *rows[:5], *sentences(100, seed=9)])
    more = load_baseline(card).task
    kept = {one.text for one in task._examples["test"]}
    assert kept <= {one.text for one in more._examples["test"]}


def test_padding_policies_give_the_lengths_that_they_say(place):
    lengths = {}
    for policy in ("longest", "{fixed: 20}", "{buckets: [8, 16, 32]}"):
        task = load_baseline(trained(place, task=f"padding: {policy}")).task
        split = task.split("test")
        lengths[policy] = {split.batch([place]).inputs["input_ids"].shape[1] for place in range(len(split))}
    assert lengths["{fixed: 20}"] == {20}
    assert lengths["{buckets: [8, 16, 32]}"] <= {8, 16, 32}
    assert len(lengths["longest"]) > 3


def test_a_graph_whose_inputs_have_other_names(place):
    from onnx import TensorProto, helper, save

    names = ("ids", "mask", "kinds")
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"]) for name in names]
    nodes = [helper.make_node("Cast", ["ids"], ["logits"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(
        nodes, "g", values, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])]
    )
    card = trained(place, task="tokenizer: ../encoder")
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), place / "baselines" / "net.onnx")
    card.write_text(card.read_text().replace("model: {hf: {id: ../encoder}}", "onnx: net.onnx"))
    text = told(place)
    assert "several inputs have the same type and shape, so their order cannot be known" in text
    assert "input_ids" in text
    assert json.dumps(names[0]).strip('"') in text
