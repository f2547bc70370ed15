"""Cards of files in the forms in which users have them: each runs rightly from the card to the study, or is refused at the plan."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import classifier, run, save_graph
from worlds import efflab

from efflab.foundation.errors import RequestError
from efflab.recipe.recipe import load_recipe
from efflab.run import run_file
from efflab.tasks.digits_clutter import DigitsClutter

TASK = "{digits_clutter: {train: 64, validation: 32, test: 48}}"
DATA = DigitsClutter(train=64, validation=32, test=48)
MEASURE = (
    "{backends: [onnxruntime], seeds: [0], batch_sizes: [1, 4], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, "
    "controls: false, threads: 1}"
)
TURNED = """
from efflab import Classification
from efflab import Split


class Turned(Classification):
    def digest(self):
        return "turned"

    def split(self, name):
        import numpy as np
        from efflab.tasks.digits_clutter import DigitsClutter
        one = DigitsClutter(train=64, validation=32, test=48).split(name)
        return Split((one.inputs[0], np.arange(len(one)) % 4), one.targets)

    def loss(self, outputs, targets):
        raise NotImplementedError
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    return tmp_path


def card(world, name="mine", source="onnx: net.onnx", task=TASK, extra=""):
    (world / "baselines" / f"{name}.yaml").write_text(f"name: {name}\ntask: {task}\n{source}\n{extra}\n")


def recipe(world, variants="int8: [{quantize_static: {calibration_examples: 32}}]", measure=MEASURE):
    path = world / "r.yaml"
    path.write_text(f"name: r\nbaseline: mine\nvariants:\n  {variants}\nmeasure: {measure}\n")
    return path


def rows(world, **recipe_words):
    records = run_file(recipe(world, **recipe_words), workers=1)["records"]
    return {(one["variant"], one["batch_size"]): one for one in records}


def accuracy(path):
    split = DATA.split("test")
    return float((run(path, *split.inputs).argmax(1) == split.targets).mean())


def test_a_file_of_batch_one_is_scored_one_by_one_and_timed_at_one(world):
    path = save_graph(world / "baselines" / "net.onnx", *classifier(), batch=1)
    card(world)
    found = rows(world)
    free = save_graph(world / "free.onnx", *classifier())
    assert found["mine", 1]["quality"]["value"] == accuracy(free)
    assert found["mine", 1]["latency"]["rounds_ms"]
    assert found["mine", 4]["status"] == "unavailable"
    assert "takes batches of 1; export it with a free first axis" in found["mine", 4]["reason"]
    assert found["int8", 1]["status"] == "ok"
    assert found["int8", 1]["fidelity"][0]["examples"] == 32  # one after the other
    assert path.exists()


def test_the_record_says_what_each_step_did_and_the_report_shows_it(world):
    save_graph(world / "baselines" / "net.onnx", *classifier())
    card(world)
    (step,) = rows(world)["int8", 1]["fidelity"]
    assert step["technique"] == "quantize_static"
    assert step["sqnr_db"] > 20
    assert step["examples"] == 32
    from efflab.records.study import load_study
    from efflab.reporting.report import write_report

    write_report(load_study(world / ".efflab/studies/r/study.json"), world / "report")
    told = json.loads((world / "report" / "report.json").read_text())["sections"]["fidelity"]["rows"]
    assert [(one["variant"], one["technique"]) for one in told] == [("int8", "quantize_static")]
    assert "What each step did to the outputs" in (world / "report" / "report.md").read_text()


def test_weights_in_a_file_beside_count_and_are_part_of_the_identity(world):
    path = save_graph(world / "whole.onnx", *classifier())
    model = onnx.load(str(path))
    target = world / "baselines" / "net.onnx"
    onnx.save(model, str(target), save_as_external_data=True, location="net.data", size_threshold=100)
    card(world)
    found = rows(world)
    assert found["mine", 1]["quality"]["value"] == accuracy(path)
    assert found["mine", 1]["work"]["artefact_bytes"] > 4 * 8000
    assert found["int8", 1]["status"] == "ok"
    before = load_recipe(world / "r.yaml").baselines[0].content(0)
    data = bytearray((world / "baselines" / "net.data").read_bytes())
    data[100] ^= 0xFF
    (world / "baselines" / "net.data").write_bytes(bytes(data))
    assert load_recipe(world / "r.yaml").baselines[0].content(0) != before
    (world / "baselines" / "net.data").unlink()
    with pytest.raises(
        RequestError, match=r"mine\.yaml:3: onnx: net\.onnx keeps its weights in net\.data, which is missing"
    ):
        load_recipe(world / "r.yaml")


def two_inputs(world, order, shape=(1,)):
    nodes, weights = classifier()
    nodes[-1].output[0] = "g"
    nodes += [helper.make_node("Gather", ["T", "turn"], ["t"]), helper.make_node("Add", ["g", "t"], ["y"])]
    weights["T"] = np.random.default_rng(7).normal(0, 2, (4, 10)).astype(np.float32)
    path = save_graph(world / "baselines" / "net.onnx", nodes, weights)
    model = onnx.load(str(path))
    turn = helper.make_tensor_value_info("turn", onnx.TensorProto.INT64, ["N", *shape[1:]])
    model.graph.input.insert(order, turn)
    onnx.save(model, str(path))
    (world / "plugins" / "tasks").mkdir(parents=True)
    (world / "plugins" / "tasks" / "turned.py").write_text(TURNED)
    card(world, task="{turned: {}}")
    return path


@pytest.mark.parametrize("order", [0, 1])
def test_inputs_in_any_order_are_matched(world, order):
    path = two_inputs(world, order)
    recipe(world)
    done = efflab("run", "r.yaml", cwd=world, EFFLAB_PLUGINS="plugins")
    assert done.returncode == 0, done.stderr
    found = json.loads((world / ".efflab/studies/r/study.json").read_text())["records"]
    images, targets = DATA.split("test").inputs[0], DATA.split("test").targets
    turns = np.arange(len(images)) % 4
    right = float((run(path, *((turns, images) if order == 0 else (images, turns))).argmax(1) == targets).mean())
    assert {one["quality"]["value"] for one in found if one["variant"] == "mine"} == {right}
    shown = efflab("show", "mine", cwd=world, EFFLAB_PLUGINS="plugins")
    assert "turn" in shown.stdout
    assert "int64" in shown.stdout


def outputs(world, *names):
    """Write a net that gives its logits under several names, all but the last one negated, and as labels for `label`."""
    nodes, weights = classifier()
    nodes[-1].output[0] = "g"
    made = []
    for name in names:
        if name == "label":
            made.append((helper.make_node("ArgMax", ["g"], [name], axis=1, keepdims=0), onnx.TensorProto.INT64, ["N"]))
        else:
            kind = "Identity" if name == names[-1] else "Neg"
            made.append((helper.make_node(kind, ["g"], [name]), onnx.TensorProto.FLOAT, ["N", 10]))
    path = save_graph(world / "baselines" / "net.onnx", [*nodes, *(one[0] for one in made)], weights)
    model = onnx.load(str(path))
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, one[1], one[2]) for name, one in zip(names, made, strict=True)
    )
    onnx.save(model, str(path))
    return path


def right_accuracy(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    split = DATA.split("test")
    return float((session.run(None, {"x": split.inputs[0]})[-1].argmax(1) == split.targets).mean())


@pytest.mark.parametrize(
    ("names", "extra"),
    [
        (("label", "probabilities"), ""),
        (("aux", "logits"), ""),
        (("first", "second"), "output: second"),
        (("a", "z"), "output: 1"),
    ],
)
def test_the_output_that_is_scored_is_the_right_one(world, names, extra):
    path = outputs(world, *names)
    card(world, extra=extra)
    found = rows(world)
    assert found["mine", 1]["quality"]["value"] == right_accuracy(path)
    assert found["int8", 1]["status"] == "ok"


@pytest.mark.parametrize(
    ("names", "extra", "words"),
    [
        (("label",), "", "accuracy needs an output with a score for each class.*label int64"),
        (("a", "b"), "", "several outputs could hold the scores of 10 classes.*`output: ...`"),
        (("a", "b"), "output: c", "the model has no output 'c'; it gives 0: a float32"),
        (("label", "p"), "output: label", "accuracy needs an output with a score for each class"),
        (("a",), "inputs: [image]", "must name each input of net.onnx once: x"),
    ],
)
def test_what_cannot_be_scored_or_fed_is_refused_at_the_plan(world, names, extra, words):
    outputs(world, *names)
    card(world, extra=extra)
    with pytest.raises(RequestError, match=words) as caught:
        load_recipe(recipe(world))
    assert "mine.yaml:" in str(caught.value)


def test_steps_that_choose_nodes_choose_by_place_where_there_are_no_names(world):
    named = save_graph(world / "baselines" / "net.onnx", *classifier(), names=True)
    card(world)
    steps = (
        "keep: [{quantize_static: {calibration_examples: 32, keep_float: 1, correct_bias: true}}]\n"
        "  mixed: [{quantize_mixed: {bit_operations: 0.06, calibration_examples: 32}}]"
    )
    quick = MEASURE.replace("[1, 4]", "[1]")
    first = rows(world, variants=steps, measure=quick)
    model = onnx.load(str(named))
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, str(world / "baselines" / "net.onnx"))
    again = rows(world, variants=steps, measure=quick)
    for variant in ("keep", "mixed"):
        assert again[variant, 1]["status"] == "ok"
        assert again[variant, 1]["work"]["bit_operations"] == first[variant, 1]["work"]["bit_operations"]
        assert again[variant, 1]["quality"]["value"] == first[variant, 1]["quality"]["value"]


def test_a_task_without_a_training_split_is_calibrated_on_validation(world):
    two_inputs(world, 1)
    source = (world / "plugins" / "tasks" / "turned.py").read_text()
    more = '\n    def splits(self):\n        return ("validation", "test")\n'
    (world / "plugins" / "tasks" / "turned.py").write_text(
        source.replace(
            "    def split(self, name):\n", f'{more}\n    def split(self, name):\n        assert name != "train"\n'
        )
    )
    recipe(world)
    done = efflab("run", "r.yaml", cwd=world, EFFLAB_PLUGINS="plugins")
    assert done.returncode == 0, done.stderr


def test_constants_of_a_file_are_numbers_like_any_other(world):
    path = save_graph(world / "baselines" / "net.onnx", *classifier(), form="constant", opset=9)
    card(world)
    found = rows(world, variants="w8: [{quantize_weights: {}}]")
    assert found["mine", 1]["quality"]["value"] == accuracy(path)
    assert found["w8", 1]["status"] == "ok"
    assert found["w8", 1]["work"]["artefact_bytes"] < 0.5 * found["mine", 1]["work"]["artefact_bytes"]
    assert numpy_helper.to_array(onnx.load(str(path)).graph.node[0].attribute[0].t).dtype == np.float32


def test_a_model_whose_answers_depend_on_chance_or_on_each_other_is_refused(world):
    nodes, weights = classifier()
    nodes[-1].output[0] = "g"
    noise = [helper.make_node("RandomNormalLike", ["g"], ["z"], scale=3.0), helper.make_node("Add", ["g", "z"], ["y"])]
    save_graph(world / "baselines" / "net.onnx", [*nodes, *noise], weights)
    card(world)
    with pytest.raises(RequestError, match="gives other outputs when it runs on the same input again"):
        run_file(recipe(world), workers=1)
    nodes, weights = classifier()
    nodes[0].input[0] = "centred"
    mean = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
    ]
    save_graph(world / "baselines" / "net.onnx", [*mean, *nodes], weights, opset=13)
    with pytest.raises(RequestError, match="an example's outputs depend on the other examples in the call"):
        run_file(recipe(world), workers=1)


def test_a_model_of_fewer_classes_than_the_data_is_refused_at_the_plan(world):
    nodes, weights = classifier()
    weights["W"], weights["B"] = weights["W"][:, :9], weights["B"][:9]
    save_graph(world / "baselines" / "net.onnx", nodes, weights, classes=9)
    card(world)
    with pytest.raises(
        RequestError, match=r"the data has 10 classes, and this model gives fewer scores: y float32 \(\?, 9\)"
    ):
        load_recipe(recipe(world))


def test_steps_that_train_are_refused_at_the_plan_where_there_is_no_training_split(world):
    (world / "plugins" / "tasks").mkdir(parents=True)
    bare = TURNED + '\n    def splits(self):\n        return ("validation", "test")\n'
    (world / "plugins" / "tasks" / "turned.py").write_text(bare)
    (world / "baselines" / "net.py").write_text("def build():\n    import torch\n    return torch.nn.Flatten()\n")
    card(world, source="python: {file: net.py, function: build}", task="{turned: {}}")
    recipe(world, variants="tuned: [{finetune: {}}]")
    done = efflab("plan", "r.yaml", cwd=world, EFFLAB_PLUGINS="plugins")
    assert done.returncode == 2
    assert "finetune trains, and the task of mine has no training split" in done.stderr


@pytest.mark.parametrize("number", [-1e30, -3.4e38, -np.inf])
def test_a_class_that_is_switched_off_does_not_drown_the_others(world, number):
    nodes, weights = classifier()
    nodes[-1].output[0] = "g"
    nodes.append(helper.make_node("Add", ["g", "off"], ["y"]))
    weights["off"] = np.array([*[0] * 9, number], np.float32)
    save_graph(world / "baselines" / "net.onnx", nodes, weights)
    card(world)
    found = rows(world)["int8", 1]
    assert found["status"] == "ok"
    (step,) = found["fidelity"]
    assert 10 < step["sqnr_db"] < 100
    assert step["agreement"] > 0.8


def test_scores_that_were_sorted_are_refused_at_the_plan(world):
    nodes, weights = classifier()
    nodes[-1].output[0] = "g"
    nodes.append(helper.make_node("TopK", ["g", "k"], ["scores", "indices"]))
    path = save_graph(
        world / "baselines" / "net.onnx", [*nodes[:-1], helper.make_node("Identity", ["g"], ["y"])], weights
    )
    model = onnx.load(str(path))
    model.graph.node[-1].CopyFrom(nodes[-1])
    model.graph.initializer.append(numpy_helper.from_array(np.array([10]), "k"))
    del model.graph.output[:]
    model.graph.output.extend([
        helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 10]),
        helper.make_tensor_value_info("indices", onnx.TensorProto.INT64, ["N", 10]),
    ])  # fmt: skip
    onnx.save(model, str(path))
    card(world)
    with pytest.raises(
        RequestError, match=r"mine\.yaml:3: .*output indices numbers the classes of scores.*before TopK"
    ):
        load_recipe(recipe(world))
