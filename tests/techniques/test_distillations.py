"""Decoupled distillation, attention transfer and ensembles, against numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from efflab.foundation.errors import RequestError
from efflab.models.resnet_cifar import resnet_cifar
from efflab.models.vision_transformer import vision_transformer
from efflab.plan.plan import make_plan
from efflab.recipe.recipe import parse_recipe
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.distill import soft_loss
from efflab.techniques.distill_decoupled import decoupled_losses
from efflab.techniques.prune_channels import prune_channels
from efflab.techniques.transfer_attention import attention_map, common_layers, transfer_attention
from efflab.training.technique_training import mean_logits

TASK = DigitsClutter(**DigitsClutter.tiny)


def test_the_two_parts_by_hand():
    # probabilities of the teacher (1/2, 1/4, 1/4), of the model (1/3, 1/3, 1/3); the target is class 0
    teacher = torch.tensor([[math.log(2), 0.0, 0.0]])
    target, others = decoupled_losses(torch.zeros(1, 3), teacher, torch.tensor([0]), temperature=1.0)
    assert float(target) == pytest.approx(0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3)), rel=1e-5)
    assert float(others) == pytest.approx(0.0, abs=1e-6)
    # against target 1 the others are (2/3, 1/3) of the teacher and (1/2, 1/2) of the model
    _, others = decoupled_losses(torch.zeros(1, 3), teacher, torch.tensor([1]), temperature=1.0)
    assert float(others) == pytest.approx(2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_weighted_as_in_plain_distillation_the_parts_sum_to_it(temperature):
    torch.manual_seed(0)
    logits, teacher, targets = torch.randn(1, 10), 3 * torch.randn(1, 10), torch.tensor([4])
    target, others = decoupled_losses(logits, teacher, targets, temperature)
    rest = 1 - torch.softmax(teacher / temperature, dim=1)[0, 4]  # Zhao et al., equation 6
    assert float(target + rest * others) == pytest.approx(float(soft_loss(logits, teacher, temperature)), rel=1e-4)


def test_gradients_of_the_parts_are_finite_for_a_certain_teacher():
    logits = torch.zeros(2, 10, requires_grad=True)
    teacher = torch.full((2, 10), -100.0).scatter(1, torch.tensor([[3], [7]]), 100.0)
    target, others = decoupled_losses(logits, teacher, torch.tensor([3, 0]))
    (target + others).backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(target + others)


def test_maps_are_means_of_squares_of_length_one():
    features = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]], [[3.0, 0.0], [0.0, 4.0]]]])
    assert attention_map(features)[0].tolist() == pytest.approx([9 / math.hypot(9, 16), 0, 0, 16 / math.hypot(9, 16)])
    tokens = features.flatten(2).transpose(1, 2)
    assert torch.allclose(attention_map(tokens), attention_map(features))


def test_a_pruned_net_and_its_baseline_are_compared_once_a_size():
    torch.manual_seed(0)
    teacher, student = resnet_cifar(8, 1, 1), resnet_cifar(8, 1, 1)
    prune_channels(student, torch.randn(2, 1, 24, 24), 0.5, round_to=1)
    names = common_layers(student, teacher, [torch.randn(2, 1, 24, 24)])
    assert names == ["layer1", "layer2", "layer3"]


def test_nets_with_no_map_in_common_are_refused():
    with pytest.raises(RequestError, match="no layer of one name and one size of map"):
        transfer_attention(resnet_cifar(4, 1, 1), vision_transformer(16, 1, channels=1), TASK, epochs=1.0)


def test_attention_transfer_brings_maps_together_and_leaves_no_hooks():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher, student, plain = (resnet_cifar(width, 1, 1).eval() for width in (8, 4, 4))
    plain.load_state_dict(student.state_dict())
    images = torch.from_numpy(TASK.split("validation").inputs[0][:64])

    def distance(net):
        seen = {}
        handles = [
            one.layer2.register_forward_hook(lambda _m, _i, out, key=key: seen.update({key: out}))
            for key, one in (("a", net), ("b", teacher))
        ]
        with torch.no_grad():
            net.eval()(images), teacher.eval()(images)
        for handle in handles:
            handle.remove()
        return float((attention_map(seen["a"]) - attention_map(seen["b"])).pow(2).mean())

    settings = {"epochs": 4.0, "learning_rate": 0.05, "batch_size": 64}
    cost = transfer_attention(student, teacher, TASK, weight=1e4, **settings)
    transfer_attention(plain, teacher, TASK, weight=1e-6, **settings)
    assert distance(student) < distance(plain)
    assert not any(part._forward_hooks for part in student.modules())
    assert cost.training_macs > 0


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, inputs):
        return self.logits.expand(len(inputs), -1)


def test_an_ensemble_gives_its_mean_logits():
    inputs = torch.zeros(3, 1)
    found = mean_logits([Fixed([1.0, 0.0]), Fixed([3.0, 2.0])], inputs, torch.zeros(3, 2), "distill")
    assert found.tolist() == [[2.0, 1.0]] * 3
    with pytest.raises(RequestError, match="distill needs a teacher and a model"):
        mean_logits([Fixed([1.0, 0.0]), Fixed([3.0])], inputs, torch.zeros(3, 2), "distill")


def test_every_teacher_of_an_ensemble_is_checked_and_part_of_the_step(tmp_path):
    text = "name: r\nbaseline: digits-resnet-w3\nvariants:\n  d:\n    - distill: {teacher: [baseline, %s]}\n"
    with pytest.raises(RequestError, match="did you mean 'digits-resnet-w16'"):
        parse_recipe(text % "digits-resnet-w17")
    ids = []
    for teacher in ("digits-resnet-w16", "digits-resnet-w11"):
        plan = make_plan(parse_recipe(text % teacher), "machine", 1)
        ids.append(next(one for one, stage in plan.stages.items() if getattr(stage.spec, "technique", "") == "distill"))
    assert ids[0] != ids[1]
