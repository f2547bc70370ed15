"""Steps that train take any inputs: several, rows and signals as well as images, tied weights, nested outputs, zeros."""

from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import nn

from efflab import Classification, Split
from efflab.artefacts.interface import Interface
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.errors import RequestError
from efflab.model_surgery.pruning.weight_masks import marked_layers
from efflab.techniques.distill import distill, soft_loss
from efflab.techniques.distill_decoupled import decoupled_losses
from efflab.techniques.finetune import finetune
from efflab.techniques.prune_gradually import prune_gradually
from efflab.techniques.prune_weights import PruneWeights, prune_weights
from efflab.techniques.quantize_aware import quantize_aware
from efflab.techniques.regularize_scales import regularize_scales
from efflab.techniques.train_supernet import train_supernet
from efflab.techniques.transfer_attention import transfer_attention
from efflab.training.trainer import fit

SETTINGS = {"epochs": 2.0, "batch_size": 32, "learning_rate": 0.05}


class Blobs(Classification):
    """Four classes of points, as rows, signals or images, with or without a second input that must be added."""

    classes: ClassVar[int | None] = 4
    tiny: ClassVar[dict[str, Any]] = {}
    form: Literal["rows", "signals", "images"] = "rows"
    second: bool = False

    def digest(self):
        return f"blobs-{self.form}-{self.second}"

    def split(self, name):
        rng = np.random.default_rng(["train", "validation", "test"].index(name))
        targets = rng.integers(0, 4, 256)
        x = rng.normal(size=(256, 16)).astype(np.float32)
        hidden = rng.normal(size=256).astype(np.float32) * 3
        x[np.arange(256), targets] += 4 + (hidden if not self.second else 0)
        shape = {"rows": (16,), "signals": (1, 16), "images": (1, 4, 4)}[self.form]
        inputs = (x.reshape(256, *shape), rng.integers(0, 3, 256)) if self.second else (x.reshape(256, *shape),)
        return Split(inputs, targets)

    def loss(self, outputs, targets):
        return nn.functional.cross_entropy(outputs.float(), targets)


class Net(nn.Module):
    """A linear net with a batch norm; takes a second input if it is given one; its outputs come in any nesting."""

    def __init__(self, wrap=lambda logits: logits, tied=False, zero=False):
        super().__init__()
        self.flat, self.a, self.norm = nn.Flatten(), nn.Linear(16, 16), nn.BatchNorm1d(16)
        self.b, self.turn, self.last = nn.Linear(16, 16), nn.Embedding(3, 16), nn.Linear(16, 4)
        self.wrap = wrap
        if tied:
            self.b.weight = self.a.weight
        if zero:
            nn.init.zeros_(self.last.weight)

    def forward(self, x, turn=None):
        """Return the logits, wrapped."""
        x = torch.relu(self.norm(self.a(self.flat(x))))
        x = x if turn is None else x + self.turn(turn)
        return self.wrap(self.last(torch.relu(self.b(x))))


def net(**settings):
    torch.manual_seed(0)
    return Net(**settings)


def quality(module, task):
    split = task.split("test")
    with torch.no_grad():
        outputs = module.eval()(*(torch.from_numpy(one) for one in split.inputs))
    return float(task.scores(task.scored(outputs), split.targets).mean())


STEPS = {
    "fit": lambda module, task: fit(module, task, TrainingSettings(**SETTINGS), 0),
    "finetune": lambda module, task: finetune(module, task, **SETTINGS),
    "distill": lambda module, task: distill(module, net(), task, weight=0.1, **SETTINGS),
    "quantize_aware": lambda module, task: quantize_aware(module, task, [task.split("train").inputs], **SETTINGS),
    "prune_gradually": lambda module, task: prune_gradually(module, task, 0.3, 2, **SETTINGS),
    "regularize_scales": lambda module, task: regularize_scales(module, task, **SETTINGS),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("form", "second"), [("rows", False), ("signals", False), ("images", False), ("rows", True)])
def test_every_step_that_trains_takes_rows_signals_images_and_two_inputs(step, form, second):
    task, module = Blobs(form=form, second=second), net()
    before = quality(module, task)
    STEPS[step](module, task)
    assert quality(module, task) > max(before, 0.4)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("wrap", [lambda y: {"loss": None, "logits": y}, lambda y: (y, None), lambda y: (y.mean(1), y)])
def test_every_step_that_trains_finds_the_logits_among_the_outputs(step, wrap):
    module = net(wrap=wrap)
    STEPS[step](module, Blobs())
    assert quality(module, Blobs()) > 0.4


def test_the_output_that_a_card_names_is_the_one_that_is_trained():
    task = Blobs().for_model(Interface(scored=1))
    module = net(wrap=lambda y: (-y, y))
    finetune(module, task, **SETTINGS)
    assert quality(module, task) > 0.4
    with pytest.raises(RequestError, match="several outputs could hold the scores"):
        finetune(net(wrap=lambda y: (-y, y)), Blobs(), **SETTINGS)


def test_a_layer_that_starts_at_zero_learns():
    zero, other = net(zero=True), net()
    for module in (zero, other):
        fit(module, Blobs(), TrainingSettings(**SETTINGS), 0)
    assert float(zero.last.weight.abs().sum()) > 0
    assert quality(zero, Blobs()) > quality(other, Blobs()) - 0.1


def test_only_what_a_pruning_step_set_to_zero_stays_zero():
    module = net(zero=True)
    prune_weights(module, 0.5, spare_ends=False)
    assert marked_layers(module) == ["a", "b"]  # the last layer is all zeros: it has yet to learn
    pruned = {name: module.get_submodule(name).weight == 0 for name in ("a", "b")}
    finetune(module, Blobs(), **SETTINGS)
    for name, mask in pruned.items():
        weight = module.get_submodule(name).weight
        assert not bool(weight[mask].any())
        assert bool(weight[~mask].all())
    assert float(module.last.weight.abs().sum()) > 0


def test_marks_of_pruning_survive_being_stored():
    module = net()
    result = PruneWeights(sparsity=0.5).apply(module, type("Context", (), {"seed": 0})())
    again = PruneWeights.rebuild(net(), result.structure)
    assert marked_layers(again) == marked_layers(module) == ["b"]


def test_zeros_stay_under_emulated_rounding():
    module = net()
    prune_weights(module, 0.5, spare_ends=False)
    zeros = int((module.b.weight == 0).sum())
    quantize_aware(module, Blobs(), [Blobs().split("train").inputs], **SETTINGS)
    assert int((module.b.weight == 0).sum()) >= zeros


def test_tied_weights_stay_tied_over_an_interruption(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(done, total, note):
        if done > total / 2:
            raise StoppedError

    settings = TrainingSettings(epochs=6, batch_size=16)  # reports come every 20 steps
    whole, interrupted = net(tied=True), net(tied=True)
    fit(whole, Blobs(), settings, 0)
    with pytest.raises(StoppedError):
        fit(interrupted, Blobs(), settings, 0, checkpoint=tmp_path / "c.safetensors", report=stop)
    again = net(tied=True)
    fit(again, Blobs(), settings, 0, checkpoint=tmp_path / "c.safetensors")
    assert again.a.weight is again.b.weight
    torch.testing.assert_close(again.a.weight, whole.a.weight)
    torch.testing.assert_close(again.last.weight, whole.last.weight)


def test_classes_that_are_switched_off_can_be_distilled():
    off = lambda y: torch.cat([y, torch.full_like(y[:, :2], -torch.inf)], 1)  # noqa: E731
    module, teacher = net(wrap=off), net(wrap=off)
    distill(module, teacher, Blobs(), weight=0.1, **SETTINGS)
    assert quality(module, Blobs()) > 0.4
    logits = off(torch.randn(3, 4)).requires_grad_()
    for value in (
        soft_loss(logits, logits.detach(), 4.0),
        *decoupled_losses(logits, logits.detach(), torch.tensor([0, 1, 2])),
    ):
        assert bool(value.isfinite())


def test_steps_that_need_images_or_more_examples_say_so():
    with pytest.raises(RequestError, match="start_scale shrinks images, and these inputs are none"):
        fit(net(), Blobs(), TrainingSettings(epochs=1, batch_size=32, start_scale=0.5), 0)
    with pytest.raises(RequestError, match="batch_size is 512, and there are 256 training examples"):
        finetune(net(), Blobs(), batch_size=512)


def test_a_task_without_a_training_split_trains_nothing():
    class Bare(Blobs):
        def splits(self):
            return ("validation", "test")

    with pytest.raises(RequestError, match="no training split, and this step trains"):
        finetune(net(), Bare(), **SETTINGS)


def test_steps_with_other_losses_take_two_inputs_too():
    task = Blobs(second=True)
    module = net()
    train_supernet(module, task, widths=(0.5,), random_subnets=0, **SETTINGS)
    assert quality(module, task) > 0.4
    with pytest.raises(RequestError, match="no layer of one name and one size of map"):
        transfer_attention(net(), net(), task, **SETTINGS)
