import math

import pytest
import torch

from efflab import Context
from efflab.foundation.errors import RequestError
from efflab.models.resnet_cifar import resnet_cifar
from efflab.profiling.work_module import count_module
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.cast import cast
from efflab.techniques.distill import Distill, distill, soft_loss
from efflab.techniques.finetune import Finetune, finetune

TASK = DigitsClutter(**DigitsClutter.tiny)


def module(width: int = 4, seed: int = 0) -> torch.nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return resnet_cifar(width, 1, 1)


def loss(trained: torch.nn.Module) -> float:
    split = TASK.split("train")
    with torch.no_grad():
        return float(TASK.loss(trained.eval()(torch.from_numpy(split.inputs[0])), torch.from_numpy(split.targets)))


def test_soft_loss_by_hand():
    # teacher (2/3, 1/3), model (1/2, 1/2) at T = 2: 4 x (2/3 ln 4/3 + 1/3 ln 2/3)
    teacher = torch.tensor([[2 * math.log(2), 0.0]])
    expected = 4 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))
    assert float(soft_loss(torch.zeros(1, 2), teacher, 2.0)) == pytest.approx(expected, rel=1e-5)
    assert float(soft_loss(teacher, teacher, 2.0)) == pytest.approx(0.0, abs=1e-6)


def test_finetune_learns_and_charges_its_examples():
    trained = module(8)
    before = loss(trained)
    cost = finetune(trained, TASK, epochs=6.0, learning_rate=0.1, batch_size=32)
    assert loss(trained) < before - 0.2
    macs = count_module(trained, (torch.zeros(1, 1, 24, 24),))["macs"]
    assert cost.training_macs == 3 * macs * 6 * 512
    assert cost.seconds > 0


def test_distilling_with_full_weight_follows_the_teacher_and_not_the_targets():
    teacher = module(seed=3)
    finetune(teacher, TASK, epochs=2.0, learning_rate=0.1, batch_size=64)
    inputs = torch.from_numpy(TASK.split("train").inputs[0])
    with torch.no_grad():
        wanted = teacher.eval()(inputs)

    def distance(student: torch.nn.Module) -> float:
        with torch.no_grad():
            return float(soft_loss(student.eval()(inputs), wanted, 1.0))

    student = module(seed=4)
    distill(student, teacher, TASK, weight=1.0, temperature=1.0, epochs=3.0, learning_rate=0.1, batch_size=64)
    other = module(seed=4)
    distill(other, teacher, TASK, weight=0.0, temperature=1.0, epochs=3.0, learning_rate=0.1, batch_size=64)
    assert distance(student) < distance(other)


def test_distill_takes_the_teacher_that_is_named(tmp_path):
    asked = []

    def card(name: str) -> torch.nn.Module:
        asked.append(name)
        return module(8)

    context = Context(TASK, 0, tmp_path, baseline=module, card=card)
    Distill(teacher="big-one", **Distill.tiny).apply(module(), context)
    assert asked == ["big-one"]
    student_macs, teacher_macs = (
        count_module(one, (torch.zeros(1, 1, 24, 24),))["macs"] for one in (module(), module(8))
    )
    assert context.cost.training_macs == (3 * student_macs + teacher_macs) * 512
    assert list(tmp_path.iterdir()) == [], "the checkpoint is gone"


def test_a_teacher_of_another_task_is_refused():
    with pytest.raises(RequestError, match="logits of one shape"):
        distill(module(), resnet_cifar(4, 1, 1, classes=7), TASK, epochs=0.2)


def test_an_interrupted_finetune_goes_on(tmp_path):
    class StopError(Exception):
        pass

    def stop(done: int, total: int, note: str) -> None:
        if done > total // 2:
            raise StopError

    step = Finetune(epochs=4.0, batch_size=64)
    whole = (
        step.apply(module(), Context(TASK, 0, tmp_path / "a", module, module)).model
        if (tmp_path / "a").mkdir() is None
        else None
    )
    folder = tmp_path / "b"
    folder.mkdir()
    with pytest.raises(StopError):
        step.apply(module(), Context(TASK, 0, folder, module, module, report=stop))
    resumed = step.apply(module(), Context(TASK, 0, folder, module, module)).model
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor)


def test_cast_halves_the_bytes_and_refuses_to_do_nothing():
    wide = module()
    narrow = cast(module(), "float16")
    for name, tensor in narrow.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float16
            torch.testing.assert_close(tensor.float(), wide.state_dict()[name], rtol=1e-3, atol=1e-4)
    with pytest.raises(RequestError, match="is float16 already"):
        cast(narrow, "float16")
