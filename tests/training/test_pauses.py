"""A gradual pruning can pause for a look as other trainings can, and ends as if it had not."""

import pytest
import torch

from efflab import Context
from efflab.foundation.errors import Paused
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_module import count_module
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.prune_gradually import PruneGradually, prune_gradually
from efflab.training.technique_training import CHECKPOINT
from efflab.training.trainer import pause_at

TASK = DigitsClutter(**DigitsClutter.tiny)
SETTINGS = {"sparsity": 0.8, "batch_size": 64}


def net():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return resnet_cifar(4, 1, 1)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def zeros(module):
    return sum(int((one == 0).sum()) for one in module.parameters() if one.ndim > 1)


@pytest.mark.parametrize(
    ("rounds", "epochs", "asked", "paused"),
    [
        (2, 4.0, 0.25, 0.25),  # within the first round
        (2, 4.0, 0.7, 0.75),  # within the second
        (2, 4.0, 0.5, 0.5),  # between them
        (2, 4.0, 0.3, 0.5),
        (3, 3.0, 0.1, 1 / 3),
        (4, 2.0, 0.3, 0.5),  # a round is shorter than an epoch
        (1, 2.0, 0.5, 0.5),
    ],
)
def test_a_gradual_pruning_that_pauses_ends_the_same(tmp_path, rounds, epochs, asked, paused):
    settings = {**SETTINGS, "rounds": rounds, "epochs": epochs, "seed": 1}
    whole, resumed = net(), net()
    cost = prune_gradually(whole, TASK, **settings)
    checkpoint = tmp_path / "c.safetensors"
    pause_at(checkpoint, asked)
    seconds = []
    for _ in range(2):  # asked again, it pauses where it stands
        halted = net()
        with pytest.raises(Paused) as pause:
            prune_gradually(halted, TASK, checkpoint=checkpoint, **settings)
        assert pause.value.share == pytest.approx(paused)
        assert 0 < zeros(halted) <= zeros(whole)
        seconds.append(pause.value.seconds)
    assert seconds[1] == pytest.approx(seconds[0], abs=0.5)
    pause_at(checkpoint, None)
    again = prune_gradually(resumed, TASK, checkpoint=checkpoint, **settings)
    assert same(whole, resumed)
    assert again.training_macs == cost.training_macs
    assert again.seconds > seconds[0]
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_later_looks_and_no_look_at_all(tmp_path):
    settings = {**SETTINGS, "rounds": 2, "epochs": 4.0}
    whole, halted = net(), net()
    prune_gradually(whole, TASK, **settings)
    checkpoint = tmp_path / "c.safetensors"
    for asked in (0.2, 0.5, 0.6):
        pause_at(checkpoint, asked)
        halted = net()
        with pytest.raises(Paused) as pause:
            prune_gradually(halted, TASK, checkpoint=checkpoint, **settings)
        assert pause.value.share == pytest.approx({0.2: 0.25, 0.5: 0.5, 0.6: 0.75}[asked])
    pause_at(checkpoint, 1.0)
    halted = net()
    prune_gradually(halted, TASK, checkpoint=checkpoint, **settings)
    assert same(whole, halted)


def test_what_was_trained_before_the_pause_is_on_the_ledger(tmp_path):
    step = PruneGradually(rounds=2, epochs=4.0, **SETTINGS)
    context = Context(TASK, 0, tmp_path, net, net)
    module = net()
    pause_at(tmp_path / CHECKPOINT, 0.25)
    with pytest.raises(Paused):
        step.apply(module, context)
    macs = count_module(module, (torch.zeros(1, 1, 24, 24),))["macs"]
    assert context.cost.training_macs == 3 * macs * 512
    pause_at(tmp_path / CHECKPOINT, None)
    step.apply(net(), Context(TASK, 0, tmp_path, net, net))
    assert list(tmp_path.iterdir()) == []
