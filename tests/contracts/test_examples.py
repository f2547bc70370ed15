import numpy as np
import torch

from efflab.contracts.examples import calibration_batches, example_inputs, loss_gradients
from efflab.models.resnet_cifar import resnet_cifar
from efflab.tasks.digits_clutter import DigitsClutter

TASK = DigitsClutter(**DigitsClutter.tiny)


def test_batches_are_the_first_training_examples():
    batches = list(calibration_batches(TASK, 70, 32))
    assert [len(batch[0]) for batch in batches] == [32, 32, 6]
    assert np.array_equal(np.concatenate([batch[0] for batch in batches]), TASK.split("train").inputs[0][:70])
    assert sum(len(batch[0]) for batch in calibration_batches(TASK, 10**6)) == 512


def test_example_inputs_are_copies():
    (example,) = example_inputs(TASK)
    example.zero_()
    assert np.abs(TASK.split("train").inputs[0][:2]).max() > 0


def test_gradients_are_those_of_the_mean_loss_whatever_the_batches():
    torch.manual_seed(0)
    module = resnet_cifar(4, 1, 1).eval()
    loss_gradients(TASK, 200, batch_size=64)(module)
    split = TASK.split("train")
    loss = TASK.loss(module(torch.from_numpy(split.inputs[0][:200])), torch.from_numpy(split.targets[:200]))
    torch.testing.assert_close(module.linear.weight.grad, torch.autograd.grad(loss, module.linear.weight)[0])
