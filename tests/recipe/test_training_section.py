"""Recipes write what a step trains by in the section `training`, or in short beside it: sweeps, searches, schema, mistakes."""

from pathlib import Path

import pytest
import yaml

from efflab.foundation.errors import RequestError
from efflab.recipe.recipe import parse_recipe
from efflab.recipe.schema import recipe_schema
from efflab.recipe.search_choices import BadChoice, parse_steps
from efflab.recipe.search_space import Dimension, Space, corners, dimensions, recipe_at, spelled

ROOT = Path(__file__).parents[2]
HEAD = "name: x\nbaseline: digits-resnet-w3\nmeasure: {controls: false}\n"
TRAINING = {"epochs": 5.0, "learning_rate": 0.02, "batch_size": 128, "weight_decay": 5e-4, "warmup": 0.1}


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def variants(text):
    return parse_recipe(f"{HEAD}variants:\n{text}", ROOT / "recipes" / "x.yaml").variants


def problems(text):
    with pytest.raises(RequestError) as caught:
        variants(text)
    return [(one.where.removeprefix(f"{ROOT}/recipes/"), one.what) for one in caught.value.problems]


@pytest.mark.parametrize(
    "step",
    [
        "{epochs: 1, bf16: true, temperature: 2}",
        "{training: {epochs: 1, bf16: true}, temperature: 2}",
        "{temperature: 2, training: {bf16: true}, epochs: 1}",
    ],
)
def test_all_forms_are_one_step(step):
    (variant,) = variants(f"  p: [{{distill: {step}}}]")
    ((name, technique),) = variant.steps
    assert (name, technique.temperature) == ("distill", 2.0)
    assert technique.training.model_dump() == {**TRAINING, "start_scale": 1.0, "epochs": 1.0, "bf16": True}


@pytest.mark.parametrize(
    "settings",
    [
        "{learning_rate: 0.01, sweep: {epochs: [1, 2]}}",
        "{training: {learning_rate: 0.01}, sweep: {epochs: [1, 2]}}",
        "{training: {learning_rate: 0.01, sweep: {epochs: [1, 2]}}}",
        "{learning_rate: 0.01, training: {sweep: {epochs: [1, 2]}}}",
        "{sweep: {training: [{epochs: 1}, {epochs: 2}]}, learning_rate: 0.01}",
    ],
)
def test_sweeps_stand_in_the_section_or_beside_it(settings):
    found = variants(f"  p: [{{finetune: {settings}}}]")
    assert [one.name for one in found] == ["p[epochs=1]", "p[epochs=2]"]
    trained = [one.steps[0][1].training for one in found]
    assert [(one.epochs, one.learning_rate) for one in trained] == [(1.0, 0.01), (2.0, 0.01)]


def test_two_sweeps_of_one_step_multiply():
    found = variants("  p: [{finetune: {training: {sweep: {epochs: [1, 2]}}, sweep: {bf16: [true, false]}}}]")
    assert [one.name for one in found] == [
        "p[bf16=True,epochs=1]", "p[bf16=True,epochs=2]", "p[bf16=False,epochs=1]", "p[bf16=False,epochs=2]",
    ]  # fmt: skip


KNOWN = "batch_size, bf16, epochs, learning_rate, start_scale"


@pytest.mark.parametrize(
    ("step", "where", "what"),
    [
        ("{epoch: 1}", "epoch", f"unknown key 'epoch'; did you mean 'epochs'? known: {KNOWN}, training, warmup,"),
        ("{training: {epoch: 1}}", "training.epoch", f"did you mean 'epochs'? known: {KNOWN}, warmup,"),
        ("{trainin: {}}", "trainin", "did you mean 'training'?"),
        ("{learning_rate: -1}", "learning_rate", "must be more than 0 (found -1)"),
        ("{training: {learning_rate: -1}}", "training.learning_rate", "must be more than 0 (found -1)"),
        ("{training: {epochs: 1}, learning_rate: -1}", "learning_rate", "must be more than 0 (found -1)"),
        ("{training: {epochs: 1}, epochs: 2}", "epochs", "epochs is given in `training` and beside it; leave one out"),
        ("{training: 3}", "training", "must be a mapping (found 3)"),
        ("{training: }", "training", "must be a mapping (found nothing)"),
        (
            "{training: {optimizer: sgd}}",
            "training.optimizer",
            "a step trains with the optimizer by which its baseline",
        ),
        ("{optimizer: sgd}", "optimizer", "a step trains with the optimizer by which its baseline"),
        ("{training: {sweep: {epochs: 1}}}", "training.sweep", "must map settings to non-empty lists of values"),
        ("{training: {sweep: 1}}", "training.sweep", "must map settings to non-empty lists of values"),
        ("{training: {epochs: 1}, sweep: {epochs: [2]}}", "sweep.epochs", "is also given outside the sweep"),
        ("{epochs: 1, training: {sweep: {epochs: [2]}}}", "training.sweep.epochs", "is also given outside the sweep"),
        ("{training: {sweep: {epochs: [1]}}, sweep: {epochs: [2]}}", "training.sweep.epochs", "also given outside"),
    ],
)
def test_mistakes_are_told_at_their_place(step, where, what):
    lines = yaml.safe_dump(
        {"p": [{"finetune": yaml.safe_load(step)}]}, sort_keys=False
    )  # each key on a line of its own
    found = problems("".join(f"  {line}\n" for line in lines.splitlines()))
    assert len(found) == 1
    assert found[0][0].partition(": ")[2] == f"variants.p[0].finetune.{where}"
    assert what in found[0][1]
    text = f"{HEAD}variants:\n" + "".join(f"  {line}\n" for line in lines.splitlines())
    line = text.splitlines()[int(found[0][0].split(":")[1]) - 1]
    assert line.strip().startswith(f"{where.rpartition('.')[2]}:")


def test_searches_leave_a_section_open_in_either_form():
    choose = {"epochs": [1, 2], "learning_rate": {"from": 0.01, "to": 0.1}}
    inside = {"finetune": {"training": {"bf16": True, "choose": choose}}}
    beside = {"finetune": {"bf16": True, "choose": choose}}
    told = []
    for step in (inside, beside):
        space = Space(Dimension("start", ("one",)), parse_steps([step]))
        assert len(dimensions(space)) == 3
        recipes = [recipe_at(space, point) for point in corners(space, 4)]
        told.append({spelled(card, steps) for card, steps in recipes})
    assert told[0] == told[1]
    assert "one: finetune(bf16=True, epochs=1, learning_rate=0.01)" in told[0]
    with pytest.raises(BadChoice) as caught:
        parse_steps([{"finetune": {"training": {"epochs": 1, "choose": {"epochs": [1, 2]}}}}])
    assert caught.value.key == (0, "finetune", "training", "epochs")


def search(step):
    return parse_recipe(
        f"name: x\nbaseline: digits-resnet-w3\nsearch:\n  steps:\n    - finetune: {step}\n"
        "  minimize: [error, macs]\n  trials: 4\nmeasure: {backends: [torch]}\n",
        ROOT / "recipes" / "x.yaml",
    ).search


@pytest.mark.parametrize("step", ["{choose: {epochs: [1, 2]}}", "{training: {bf16: true, choose: {epochs: [1, 2]}}}"])
def test_every_choice_of_a_search_is_checked(step):
    assert sorted({one.training.epochs for _, one in search(step).techniques}) == [1.0, 2.0]
    with pytest.raises(RequestError, match="must be more than 0"):
        search(step.replace("[1, 2]", "[1, -2]"))


def test_the_schema_takes_both_forms_and_says_what_is_usual():
    jsonschema = pytest.importorskip("jsonschema")
    schema = recipe_schema()
    checker = jsonschema.Draft202012Validator(schema)

    def fits(step):
        return checker.is_valid({"name": "x", "baseline": "y", "variants": {"p": [{"finetune": step}]}})

    good = [
        {}, {"epochs": 1}, {"training": {"epochs": 1}, "bf16": True}, {"sweep": {"epochs": [1, 2]}},
        {"training": {"sweep": {"epochs": [1, 2]}}}, {"sweep": {"training": [{"epochs": 1}]}},
    ]  # fmt: skip
    assert [step for step in good if not fits(step)] == []
    bad = [
        {"epoch": 1},
        {"training": {"epoch": 1}},
        {"epochs": -1},
        {"training": {"epochs": "x"}},
        {"optimizer": "sgd"},
    ]
    assert [step for step in bad if fits(step)] == []
    step = schema["$defs"]["Step"]["properties"]["quantize_aware"]["anyOf"][0]["properties"]
    assert (step["epochs"]["default"], step["training"]["default"]["epochs"]) == (3.0, 3.0)
    assert "default" not in schema["$defs"]["StepTraining"]["properties"]["epochs"], "techniques differ in it"
    assert step["epochs"]["description"] == "Number of passes over the training split."


def test_show_lists_the_section_with_what_is_usual_for_the_technique():
    from efflab.cli.show import _settings
    from efflab.foundation import registry

    rows = {row["setting"]: row for row in _settings(registry.load("techniques", "quantize_aware"))}
    assert rows["training.learning_rate"]["default"] == "0.005"
    assert rows["training.learning_rate"]["kind"] == "float (above 0, up to 10)"
    assert [*rows][:3] == ["weight_bits", "calibration_examples", "training"]
    assert all(row["meaning"] for row in rows.values())
