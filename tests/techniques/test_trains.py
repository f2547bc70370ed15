"""The section `training` of techniques that train: its defaults, its short form, and what reads it."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from efflab import Context, Result, Technique
from efflab.contracts.training_section import StepTraining, TrainingSettings
from efflab.contracts.trains import TrainingRun, Trains
from efflab.foundation import registry
from efflab.foundation.errors import Paused
from efflab.models.resnet_cifar import resnet_cifar
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.distill import Distill
from efflab.techniques.finetune import Finetune, finetune
from efflab.techniques.prune_gradually import prune_gradually
from efflab.training.technique_training import CHECKPOINT, train_step
from efflab.training.trainer import pause_at, train

TASK = DigitsClutter(**DigitsClutter.tiny)
REST = {"batch_size": 128, "weight_decay": 5e-4, "warmup": 0.1, "start_scale": 1.0, "bf16": False}
# what each technique trained with, where a recipe said nothing, before it had a section for it
DEFAULTS = {
    "add_exits": {**REST, "epochs": 5.0, "learning_rate": 0.02},
    "distill": {**REST, "epochs": 5.0, "learning_rate": 0.02},
    "distill_decoupled": {**REST, "epochs": 5.0, "learning_rate": 0.02},
    "finetune": {**REST, "epochs": 5.0, "learning_rate": 0.02},
    "prune_gradually": {**REST, "epochs": 4.0, "learning_rate": 0.02},
    "quantize_aware": {**REST, "epochs": 3.0, "learning_rate": 0.005, "weight_decay": 1e-4},
    "regularize_scales": {**REST, "epochs": 5.0, "learning_rate": 0.05},
    "train_supernet": {**REST, "epochs": 10.0, "learning_rate": 0.05},
    "transfer_attention": {**REST, "epochs": 5.0, "learning_rate": 0.02},
}
# a step of a study that was recorded before there was a section, and the same step now
EARLIER = {"batch_size": 64, "bf16": True, "epochs": 1.0, "learning_rate": 0.03, "warmup": 0.1, "weight_decay": 5e-4}


def net(width: int = 4) -> torch.nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return resnet_cifar(width, 1, 1)


def digest(module: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in module.state_dict().values())).hexdigest()


def test_all_techniques_that_train_are_of_this_kind():
    trains = [name for name in registry.names("techniques") if issubclass(registry.load("techniques", name), Trains)]
    assert trains == [*DEFAULTS]
    for name in set(registry.names("techniques")) - {*trains}:
        assert "epochs" not in registry.load("techniques", name).model_fields


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_what_they_were(name):
    schema = registry.load("techniques", name)
    assert schema().training.model_dump() == DEFAULTS[name]
    assert schema.model_fields["training"].default == schema().training
    assert schema(training={}) == schema()
    assert schema(training=StepTraining()) == schema()


@pytest.mark.parametrize("name", DEFAULTS)
def test_both_ways_to_write_it_mean_the_same(name):
    schema = registry.load("techniques", name)
    given = {"epochs": 2, "learning_rate": 0.01, "bf16": True}
    flat, nested = schema(**given), schema(training=given)
    assert flat == nested == schema(epochs=2, training={"learning_rate": 0.01, "bf16": True})
    assert schema(training=StepTraining(**given)) == nested
    assert nested.training.model_dump() == {**DEFAULTS[name], **given}
    assert schema(**nested.model_dump()) == nested, "as a stage is told"
    assert schema(**json.loads(json.dumps(nested.model_dump(mode="json")))) == nested, "as a record holds it"
    assert nested.rate_of_training() == 0.01
    assert nested.epochs_of_training() == pytest.approx(schema().epochs_of_training() * 2 / DEFAULTS[name]["epochs"])


def test_a_key_given_both_ways_is_refused():
    with pytest.raises(ValidationError, match="epochs is given in `training` and beside it; leave one out"):
        Finetune(epochs=1.0, training={"epochs": 1.0})


@pytest.mark.parametrize(
    "bad", [{"epochs": 0.0}, {"training": {"epochs": 0.0}}, {"training": None}, {"training": 3}, {"optimizer": "sgd"}]
)
def test_bad_values_are_refused_in_either_form(bad):
    with pytest.raises(ValidationError):
        Finetune(**bad)


def test_plain_functions_take_a_run_or_its_parts():
    one, other = net(), net()
    finetune(one, TASK, epochs=1.0, batch_size=64, seed=3, optimizer="adamw")
    run = TrainingRun(3, optimizer="adamw")
    cost = finetune(other, TASK, run=run, epochs=1.0, batch_size=64)
    assert digest(one) == digest(other)
    assert run.cost == cost
    again = net()
    settings = TrainingSettings(epochs=1.0, learning_rate=0.02, batch_size=64, optimizer="adamw")
    train(again, TASK, settings, TrainingRun(3))
    assert digest(again) == digest(one)


def test_a_run_says_where_it_pauses(tmp_path: Path):
    checkpoint = tmp_path / CHECKPOINT
    settings = {"epochs": 4.0, "batch_size": 64}
    with pytest.raises(Paused) as pause:
        finetune(net(), TASK, run=TrainingRun(1, checkpoint, pause=0.5), **settings)
    assert pause.value.share == 0.5
    resumed, whole = net(), net()
    finetune(resumed, TASK, run=TrainingRun(1, checkpoint), **settings)
    finetune(whole, TASK, run=TrainingRun(1), **settings)
    assert digest(resumed) == digest(whole)


def test_a_gradual_pruning_leaves_no_marks_beside_its_checkpoint(tmp_path: Path):
    checkpoint = tmp_path / CHECKPOINT
    settings = {"rounds": 2, "epochs": 4.0, "batch_size": 64, "sparsity": 0.5}
    with pytest.raises(Paused) as pause:
        prune_gradually(net(), TASK, run=TrainingRun(1, checkpoint, pause=0.25), **settings)
    assert pause.value.share == 0.25
    assert not list(tmp_path.glob("*.pause"))


class Earlier(Technique):
    """A plug-in of an earlier release, which trains: settings of its own, `cards`, and `train_step`."""

    takes: ClassVar[str] = "module"
    gives: ClassVar[str] = "module"
    epochs: float = 4.0
    learning_rate: float = 0.05
    teacher: str = "big"

    def apply(self, model, context):
        """Train."""
        train_step(context, earlier, model, [context.card(self.teacher)], epochs=self.epochs, rate=self.learning_rate)
        return Result(model)

    def cards(self):
        """Name the teacher."""
        return [*super().cards(), self.teacher]


def earlier(module, teachers, task, epochs, rate, optimizer, seed, checkpoint, report):
    """Train as earlier plug-ins did."""
    return finetune(
        module, task, epochs=epochs, learning_rate=rate, batch_size=64, optimizer=optimizer, seed=seed,
        checkpoint=checkpoint, report=report,
    )  # fmt: skip


def test_a_plug_in_of_an_earlier_release_works_with_a_warning(tmp_path: Path):
    step = Earlier()
    with pytest.warns(FutureWarning, match="`cards` of Earlier works for one more release; call it `teachers`"):
        assert step.teachers() == ["big"]
    assert (step.epochs_of_training(), step.rate_of_training()) == (4.0, 0.05)
    context = Context(TASK, 0, tmp_path, net, lambda _: net(8))
    pause_at(tmp_path / CHECKPOINT, 0.25)
    with pytest.raises(Paused):
        step.apply(net(), context)
    paused = context.cost.training_macs
    assert paused > 0
    pause_at(tmp_path / CHECKPOINT, None)
    step.apply(net(), context)
    assert context.cost.training_macs > 2 * paused
    assert not list(tmp_path.iterdir())


def test_teachers_are_named_by_either_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Distill(teacher=["baseline", "big"]).teachers() == Distill(teacher="big").cards() == ["big"]
        assert list(Finetune().teachers()) == Finetune().cards() == []


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "reports").glob("*/study.json")), ids=str)
def test_steps_that_train_in_earlier_studies_are_read_as_they_were(path: Path):
    from efflab.suggest.outcome import current, recipe_of

    steps = {json.dumps(step) for record in json.loads(path.read_text())["records"] for step in record["steps"]}
    for step in map(json.loads, steps):
        ((name, settings),) = step.items()
        if name in DEFAULTS:
            technique = registry.load("techniques", name)(**settings)
            told = {key: value for key, value in settings.items() if key in StepTraining.model_fields}
            assert told.items() <= technique.training.model_dump().items()
            now = {name: technique.model_dump(mode="json")}
            assert [*map(current, recipe_of([step]))] == [*map(current, recipe_of([now]))] != [None]


def test_an_earlier_record_and_a_new_one_are_as_near_as_can_be():
    from efflab.suggest.distances import recipe_distances
    from efflab.suggest.outcome import current, recipe_of
    from efflab.suggest.writing import compact

    now = {"training": {**EARLIER, "start_scale": 1.0}}
    one, other = (tuple(map(current, recipe_of([{"finetune": settings}]))) for settings in (EARLIER, now))
    assert one == other
    assert compact(one) == "finetune(epochs=1, learning_rate=0.03, batch_size=64, bf16=true)"
    # 10 epochs are usual for cards, and not for this step
    assert compact(recipe_of([{"finetune": {"epochs": 10.0}}])) == "finetune(epochs=10)"
    shorter = recipe_of([{"finetune": {"training": {**EARLIER, "epochs": 2.0}}}])
    assert recipe_distances([one, shorter])[1][0, 1] == pytest.approx(torch.log(torch.tensor(2.0)).item())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": -1.0}, "finetune(epochs=-1.0)"),
        ({"training": {"epochs": -1.0}}, "finetune(epochs=-1.0)"),
        ({"training": 3}, "finetune(training=3)"),
        ({"speed": 1}, "finetune (it has no setting speed)"),
        ({"training": {"speed": 1}}, "finetune (it has no setting speed)"),
        (
            {"training": {"epochs": 1.0}, "epochs": 2.0},
            "finetune (epochs is given in `training` and beside it; leave one out)",
        ),
    ],
)
def test_what_a_record_has_that_this_version_does_not_take_is_named(settings, said):
    from efflab.suggest.outcome import current, recipe_of, unknown

    (step,) = recipe_of([{"finetune": settings}])
    assert current(step) is None
    assert unknown(step) == said
