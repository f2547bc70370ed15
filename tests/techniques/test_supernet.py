"""The supernet's training and the sub-nets cut from it: the ledger, who learns from whom, going on, and norms."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from efflab import Context
from efflab.contracts.examples import calibration_batches, example_inputs
from efflab.foundation.errors import RequestError
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_module import count_module
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.cut_subnet import CutSubnet, cut_subnet
from efflab.techniques.finetune import finetune
from efflab.techniques.train_supernet import TrainSupernet, cross_entropy, draw, subnets, train_supernet

TASK = DigitsClutter(**DigitsClutter.tiny)
EXAMPLE = example_inputs(TASK)


def module(width: int = 8, blocks: int = 1, seed: int = 0) -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return resnet_cifar(width, blocks, 1)


def macs(width: int, blocks: int = 1) -> int:
    return count_module(resnet_cifar(width, blocks, 1), (torch.zeros(1, 1, 24, 24),))["macs"]


def batches() -> list[tuple[np.ndarray, ...]]:
    return list(calibration_batches(TASK, 512, 128))


def loss(net: nn.Module) -> float:
    split = TASK.split("train")
    with torch.no_grad():
        return float(TASK.loss(net.eval()(torch.from_numpy(split.inputs[0])), torch.from_numpy(split.targets)))


@pytest.mark.parametrize(
    ("random_subnets", "beside"),
    [(0, macs(2)), (1, macs(2) + (macs(4) + macs(6)) / 2), (9, macs(2) + macs(4) + macs(6))],
)
def test_the_ledger_holds_the_largest_the_smallest_and_the_mean_of_what_is_drawn(random_subnets, beside):
    cost = train_supernet(module(), TASK, [0.5, 0.25, 0.75], (), random_subnets, epochs=0.25, batch_size=64)
    assert cost.training_macs == pytest.approx(3 * 128 * (macs(8) + beside), rel=1e-12)
    assert cost.seconds > 0
    assert cost.hardware_burden_flop > 0


def test_the_plan_weighs_passes_by_width_squared():
    assert TrainSupernet(widths=[0.5, 0.25], epochs=8.0).epochs_of_training() == 8 * (1 + 1 / 16 + 2 * 5 / 32)


def test_sizes_are_all_pairs_of_widths_and_depths_but_the_whole_net():
    net = module(8, 2)
    found = {count_module(one.shell.eval(), EXAMPLE)["params"] for one in subnets(net, TASK, [0.5, 1.0], [1])}
    wanted = {
        count_module(module(w, b), EXAMPLE)["params"] for w, b in ((4, 1), (4, 2), (8, 1))
    }  # the same sizes from the model's own builder
    assert found == wanted


@pytest.mark.parametrize(
    ("widths", "blocks", "says"), [([1.0], [], "no sub-net beside the whole"), ([0.5], [1], "1 blocks")]
)
def test_what_holds_no_subnets_is_refused(widths, blocks, says):
    with pytest.raises(RequestError, match=f"^train_supernet.*{says}"):
        train_supernet(module(), TASK, widths, blocks)


def test_a_model_without_logits_is_refused():
    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 10, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(self.first(x))
            return y

    with pytest.raises(RequestError, match="train_supernet needs a model that gives logits"):
        train_supernet(Pixels(), TASK, [0.5])


def test_draws_depend_on_the_targets_and_the_seed_alone_and_miss_nobody():
    targets = [torch.randint(10, (64,), generator=torch.Generator().manual_seed(one)) for one in range(300)]
    drawn = [draw(one, 4, 2, 0) for one in targets]
    assert drawn == [draw(one.clone(), 4, 2, 0) for one in targets]
    assert drawn != [draw(one, 4, 2, 1) for one in targets]
    assert all(len({*one}) == 2 and {*one} <= {0, 1, 2, 3} for one in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=4)
    assert abs(counts - 150).max() < 5 * np.sqrt(300 * 0.5 * 0.5)
    assert draw(targets[0], 3, 3, 0) == [0, 1, 2]
    assert draw(targets[0], 0, 0, 0) == []


def test_cross_entropy_by_hand():
    # teacher (3/4, 1/4), sub-net (1/2, 1/2): ln 2
    assert float(cross_entropy(torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]))) == pytest.approx(np.log(2))


def test_weights_outside_every_subnet_learn_from_the_targets_alone():
    """In-place distillation teaches the sub-nets and does not pull the teacher: one step leaves the rest as plain training."""
    shared, plain = module(), module()
    one_step = {"epochs": 0.125, "learning_rate": 1.0, "batch_size": 64}
    train_supernet(shared, TASK, [0.5], **one_step)
    finetune(plain, TASK, **one_step)
    a, b = shared.layer2[0].conv1.weight, plain.layer2[0].conv1.weight
    torch.testing.assert_close(a[8:], b[8:])
    torch.testing.assert_close(a[:8, 4:], b[:8, 4:])
    assert float((a[:8, :4] - b[:8, :4]).detach().abs().max()) > 1e-5


def test_training_makes_subnets_that_cutting_alone_does_not():
    plain, shared = module(seed=1), module(seed=1)
    finetune(plain, TASK, epochs=6.0, learning_rate=0.1, batch_size=32)
    train_supernet(shared, TASK, [0.5], epochs=6.0, learning_rate=0.1, batch_size=32)
    for net in (plain, shared):
        cut_subnet(net, EXAMPLE, 0.5, None, batches())
    assert loss(shared) < np.log(10) < loss(plain), "one is better than guessing, the other is not"


def test_an_interrupted_training_goes_on(tmp_path):
    class StopError(Exception):
        pass

    def stop(done: int, total: int, note: str) -> None:
        if done > total // 2:
            raise StopError

    step = TrainSupernet(widths=[0.25, 0.5, 0.75], random_subnets=1, epochs=2.0, batch_size=64)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = step.apply(module(), Context(TASK, 0, tmp_path / "a", module, module)).model
    with pytest.raises(StopError):
        step.apply(module(), Context(TASK, 0, tmp_path / "b", module, module, report=stop))
    resumed = step.apply(module(), Context(TASK, 0, tmp_path / "b", module, module)).model
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor)
    assert list((tmp_path / "b").iterdir()) == [], "the checkpoint is gone"


def test_a_subnet_is_stored_with_its_structure(tmp_path):
    net = module(8, 2)
    context = Context(TASK, 0, tmp_path, module, module)
    result = CutSubnet(width=0.5, blocks=1, calibration_examples=64).apply(copy.deepcopy(net), context)

    assert result.structure["blocks"] == {"layer1": 1, "layer2": 1, "layer3": 1}
    assert context.cost.training_macs == 0
    small = CutSubnet.rebuild(copy.deepcopy(net), result.structure)
    small.load_state_dict(result.model.state_dict())
    assert torch.equal(small.eval()(*EXAMPLE), result.model.eval()(*EXAMPLE))


def test_norms_are_measured_anew():
    net = module()
    finetune(net, TASK, epochs=1.0, batch_size=64)
    first, anew = copy.deepcopy(net), copy.deepcopy(net)
    cut_subnet(first, EXAMPLE, 0.5)
    cut_subnet(anew, EXAMPLE, 0.5, None, batches())
    assert torch.equal(first.bn1.running_mean, net.bn1.running_mean[:4])
    with torch.no_grad():
        seen = torch.stack([anew.conv1(torch.from_numpy(one[0])).mean(dim=(0, 2, 3)) for one in batches()])
    torch.testing.assert_close(anew.bn1.running_mean, seen.mean(dim=0))
    assert not anew.bn1.training


def test_the_whole_net_is_no_subnet():
    with pytest.raises(ValidationError, match="width 1 with all blocks is the whole net"):
        CutSubnet(width=1.0)
    assert CutSubnet(width=1.0, blocks=2).blocks == 2
