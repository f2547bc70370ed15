import itertools
import subprocess
import sys

import pytest
import torch
import yaml

from efflab.cards.baseline import load_baseline
from efflab.cli.main import main
from efflab.cli.train import _report
from efflab.contracts.image_augmentation import shrunk
from efflab.contracts.training_section import TrainingSettings
from efflab.foundation.errors import Paused, RequestError
from efflab.models.resnet_cifar import resnet_cifar
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.training import train_card
from efflab.training.checkpoint import resumed as _resume
from efflab.training.checkpoint import save_checkpoint as _save
from efflab.training.step import make_optimizer, make_step
from efflab.training.train_card import score, train_seed
from efflab.training.trainer import examples_seen, fit, pause_at

TASK = DigitsClutter(train=512, validation=64, test=100)
SETTINGS = TrainingSettings(epochs=3.0, batch_size=64)


def fresh():
    torch.manual_seed(0)
    return resnet_cifar(4, 1, 1)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_is_deterministic_and_an_interrupted_one_ends_the_same(optimizer, tmp_path):
    settings = SETTINGS.model_copy(update={"optimizer": optimizer})
    whole, again, broken = fresh(), fresh(), fresh()
    fit(whole, TASK, settings, 5)
    fit(again, TASK, settings, 5)
    assert same(whole, again)

    class StopError(Exception):
        pass

    def stop(done, total, note):
        if done > 8:  # in the second epoch of 8 steps each
            raise StopError

    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(StopError):
        fit(broken, TASK, settings, 5, checkpoint=checkpoint, report=stop)
    resumed = resnet_cifar(4, 1, 1)
    fit(resumed, TASK, settings, 5, checkpoint=checkpoint)
    assert same(whole, resumed)


def test_a_training_that_pauses_for_a_look_ends_the_same(tmp_path):
    whole, halted = fresh(), fresh()
    fit(whole, TASK, SETTINGS, 5)
    checkpoint = tmp_path / "c.safetensors"
    pause_at(checkpoint, 0.5)
    for _ in range(2):  # asked again, it pauses where it stands
        with pytest.raises(Paused) as pause:
            fit(halted, TASK, SETTINGS, 5, checkpoint=checkpoint)
        assert pause.value.share == 2 / 3  # the first end of an epoch from half of three epochs on
    pause_at(checkpoint, None)
    resumed = resnet_cifar(4, 1, 1)
    fit(resumed, TASK, SETTINGS, 5, checkpoint=checkpoint)
    assert same(whole, resumed)


@pytest.mark.parametrize(("value", "said"), [("tpu", "it is cpu or cuda"), ("cuda", "PyTorch finds no GPU here")])
def test_a_place_to_train_on_that_is_not_here_is_told_in_words(value, said, monkeypatch):
    monkeypatch.setenv("EFFLAB_TRAIN_ON", value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match=said):
        fit(fresh(), TASK, SETTINGS, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_gpu_learns_what_the_processor_learns(optimizer, monkeypatch):
    settings = SETTINGS.model_copy(update={"optimizer": optimizer, "epochs": 8.0})
    here, there = fresh(), fresh()
    fit(here, TASK, settings, 5)
    monkeypatch.setenv("EFFLAB_TRAIN_ON", "cuda")
    fit(there, TASK, settings, 5)
    assert next(there.parameters()).device.type == "cpu"
    assert abs(score(here, TASK) - score(there, TASK)) < 0.1


def test_what_an_optimizer_holds_is_laid_out_as_its_parameter_after_an_interruption(tmp_path):
    path = tmp_path / "c.safetensors"
    for resumed in (False, True):
        module = fresh().to(memory_format=torch.channels_last)
        optimizer = make_optimizer(module, SETTINGS)
        if resumed:
            assert _resume(path, module, optimizer) == (3, 1.5)
            assert any(one.stride() != one.contiguous().stride() for one in module.parameters())
            for parameter, state in optimizer.state.items():
                assert state["momentum_buffer"].stride() == parameter.stride()
        else:
            for parameter in module.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            _save(path, module, optimizer, 3, 1.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_goes_on_on_a_gpu(optimizer, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFLAB_TRAIN_ON", "cuda")
    module, checkpoint = fresh(), tmp_path / "c.safetensors"
    pause_at(checkpoint, 0.5)
    settings = SETTINGS.model_copy(update={"optimizer": optimizer, "epochs": 8.0})
    with pytest.raises(Paused):
        fit(module, TASK, settings, 5, checkpoint=checkpoint)
    assert next(module.parameters()).device.type == "cpu"
    pause_at(checkpoint, None)
    resumed, whole = fresh(), fresh()
    fit(resumed, TASK, settings, 5, checkpoint=checkpoint)
    fit(whole, TASK, settings, 5)
    assert abs(score(resumed, TASK) - score(whole, TASK)) < 0.1


def test_training_learns():
    torch.manual_seed(0)
    module = resnet_cifar(8, 1, 1)
    fit(module, DigitsClutter(train=4000, validation=64, test=500), TrainingSettings(epochs=5.0, batch_size=64), 0)
    assert score(module, DigitsClutter(train=64, validation=64, test=500)) > 0.3  # chance is 0.1


def test_a_loss_that_explodes_is_an_error_in_words():
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fit(
            fresh(),
            TASK,
            TrainingSettings(epochs=6.0, batch_size=64, learning_rate=10.0),
            0,
            loss=lambda x, y, t: y.sum() ** 9,
        )


def test_train_writes_weights_score_and_cost_below_the_prose(tmp_path):
    card = tmp_path / "net.yaml"
    prose = "# My net.\nname: net\ntask: {digits_clutter: {train: 256, validation: 64, test: 100}}\n"
    card.write_text(
        prose + "model: {resnet_cifar: {width: 3, blocks: 1, channels: 1}}\ntraining: {epochs: 1, batch_size: 64}\n"
    )
    for seed in (1, 0, 1):
        train_seed(load_baseline(card), seed, tmp_path / "checkpoints", lambda done, total, note: None)
    written = yaml.safe_load(card.read_text())
    assert card.read_text().startswith(prose)
    assert [weights["seed"] for weights in written["weights"]] == [0, 1]
    macs = 26_496 * 9 + 5_184 * 3 + 120  # by hand: three stages, the stem, and the linear layer at width 3
    assert written["weights"][0]["training_macs"] == 3 * macs * 256
    module = load_baseline(card).module(0)
    assert round(score(module, load_baseline(card).task), 6) == written["weights"][0]["quality"]
    assert not list((tmp_path / "checkpoints").iterdir())


def write_card(folder):
    card = folder / "net.yaml"
    card.write_text(
        "name: net\ntask: {digits_clutter: {train: 256, validation: 64, test: 100}}\n"
        "model: {resnet_cifar: {width: 3, blocks: 1, channels: 1}}\ntraining: {epochs: 1, batch_size: 64}\n"
    )
    return card


def quiet(done, total, note):
    pass


def test_a_training_that_ends_before_its_score_leaves_the_old_weights_and_the_same_command_ends_it(
    tmp_path, monkeypatch
):
    card = write_card(tmp_path)
    train_seed(load_baseline(card), 0, tmp_path / "checkpoints", quiet)
    text, weights = card.read_text(), (tmp_path / "net-s0.safetensors").read_bytes()
    card.write_text(text.replace("epochs: 1", "epochs: 2"))
    changed = card.read_text()

    def interrupted(module, task):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_card, "score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_seed(load_baseline(card), 0, tmp_path / "checkpoints", quiet)
    assert card.read_text() == changed
    assert (tmp_path / "net-s0.safetensors").read_bytes() == weights
    steps = []
    train_seed(load_baseline(card), 0, tmp_path / "checkpoints", lambda done, total, note: steps.append(done))
    assert steps == []  # the training itself was over, only its score was missing
    assert (tmp_path / "net-s0.safetensors").read_bytes() != weights
    load_baseline(card).module(0)  # the sha256 in the card is that of the new weights
    assert not list(tmp_path.glob(".*.part"))


def test_a_finished_seed_is_trained_again_only_with_force(tmp_path, capsys):
    card = write_card(tmp_path)
    words = ["train", str(card), "--checkpoints", str(tmp_path / "c"), "--threads", "1"]
    assert main(words) == 0
    written, quality = card.read_text(), yaml.safe_load(card.read_text())["weights"][0]["quality"]
    capsys.readouterr()
    assert main(words) == 2
    said = f"net.yaml:10: weights[0]: seed 0 is trained already (accuracy {quality:.4f}); train it again with --force\n"
    assert capsys.readouterr().err.endswith(said)
    assert card.read_text() == written
    assert main([*words, "--force"]) == 0
    assert yaml.safe_load(card.read_text())["weights"][0]["quality"] == quality


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "-1"], "--seed: must be a whole number from 0 to 4294967295, not -1"),
        (["--seed", "4294967296"], "--seed: must be"),
        (["--threads", "0"], "--threads: must be at least 1, not 0"),
        (["--threads", "-1"], "--threads: must be at least 1, not -1"),
    ],
)
def test_seeds_and_threads_out_of_range_are_refused_before_any_work(words, said, tmp_path, capsys):
    assert main(["train", str(write_card(tmp_path)), "--checkpoints", str(tmp_path / "c"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_the_time_left_follows_the_recent_speed(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    report = _report("net")
    for step in range(1, 11):  # 10 steps a second, then images grow and it is one step in 2 s
        clock[0] += 10
        report(100 * step, 2000, "loss 1")
    for step in range(1, 41):
        clock[0] += 10
        report(1000 + 5 * step, 2000, "loss 1")
    lines = capsys.readouterr().out.splitlines()
    assert "left" not in lines[0]
    assert lines[9] == "net: step 1000/2000, loss 1, 2 min left"
    assert lines[-1] == "net: step 1200/2000, loss 1, 27 min left"


def test_the_data_is_the_same_in_every_process_and_no_source_image_is_in_two_splits():
    program = "from efflab.tasks.digits_clutter import DigitsClutter as D; import hashlib\n"
    program += (
        "print(hashlib.sha256(D(train=64, validation=16, test=16).split('train').inputs[0].tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)
    }
    assert len(digests) == 1
    from efflab.tasks.digits_clutter import SOURCES

    ranges = sorted(SOURCES.values())
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ranges))
    assert ranges[-1][1] == 1797


def test_small_images_first_see_the_small_ones_and_count_their_area():
    settings = TrainingSettings(epochs=10.0, batch_size=64, start_scale=0.5)  # 80 steps of 24x24 images
    sides = []
    module = fresh()
    module.register_forward_pre_hook(lambda _module, inputs: sides.append(inputs[0].shape[-1]))
    fit(module, TASK, settings, 0)
    assert sides == sorted(sides)
    assert sides.count(12) >= 32
    assert sides.count(24) >= 20
    assert set(sides) == {12, 16, 20, 24}
    assert examples_seen(TASK, settings) == 64 * sum(side**2 for side in sides) / 24**2
    assert examples_seen(TASK, SETTINGS) == 3 * 8 * 64


def test_shrinking_averages_neighbours():
    images = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert shrunk(images, 1.0) is images
    small = shrunk(images, 0.5)
    assert small.shape == (1, 1, 4, 4)
    assert small.mean() == pytest.approx(images.mean())


@pytest.mark.parametrize(("device", "replay", "captured"), [("meta", True, 1), ("meta", False, 0), ("cpu", True, 0)])
def test_a_step_that_draws_anew_is_not_captured(device, replay, captured, monkeypatch):
    asked = []
    monkeypatch.setattr("efflab.training.step._captured", lambda step: asked.append(step) or step)
    make_step(torch.nn.BatchNorm1d(2).to(device), None, None, False, replay)
    assert len(asked) == captured
