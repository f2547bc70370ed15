"""The one trainer: dense baselines, fine-tuning and distillation all go through `train`."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from efflab.artefacts.artefact import tied_names, untied
from efflab.contracts.image_augmentation import shrunk, shrunk_sides
from efflab.contracts.task import Split, Task
from efflab.contracts.training_section import StepTraining, TrainingSettings
from efflab.contracts.trains import TrainingRun
from efflab.foundation.errors import Paused, RequestError
from efflab.foundation.files import replaced
from efflab.foundation.progress import Report
from efflab.training.cost import training_device
from efflab.training.feed import taker
from efflab.training.schedule import image_scale, learning_rate_share
from efflab.training.step import Loss, make_optimizer, make_step, set_learning_rate


def pause_at(checkpoint: Path, share: float | None) -> None:
    """Ask the training with this checkpoint to pause at its first epoch's end from `share` of its steps on; None: not to."""
    if share is None:
        _mark(checkpoint).unlink(missing_ok=True)
    else:
        _mark(checkpoint).write_text(str(share))


def asked_to_pause(checkpoint: Path | None) -> float | None:
    """Return the share of its steps at which a training was asked to pause by `pause_at`, None where it was not."""
    mark = checkpoint and _mark(checkpoint)
    return float(mark.read_text()) if mark and mark.exists() else None


def _mark(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".pause")


def _pause_if_asked(run: TrainingRun, done: int, total: int, seconds: float) -> None:
    share = asked_to_pause(run.checkpoint) if run.pause is None else run.pause
    if share is not None and done < total and done >= share * total > 0:
        raise Paused(done / total, seconds)


def fit(
    module: nn.Module,
    task: Task,
    settings: TrainingSettings,
    seed: int,
    loss: Loss | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda done, total, note: None,
    replay: bool = True,
) -> float:
    """Train as `train` does, what a run is given told one by one."""
    return train(module, task, settings, TrainingRun(seed, checkpoint, report=report), loss, replay)


def train(
    module: nn.Module,
    task: Task,
    settings: TrainingSettings,
    run: TrainingRun,
    loss: Loss | None = None,
    replay: bool = True,
) -> float:
    """Train `module` in place on the training split and return the seconds it took, interrupted time included.

    It works where the run or EFFLAB_TRAIN_ON says (cpu or cuda) and brings the module back. With a checkpoint, progress is
    saved after each epoch and an interrupted call goes on where it stopped, batch by batch the same. What a pruning step set to
    zero stays zero (see `weight_masks.keep_zeros`). All inputs of the task are given, `loss` gets them as a tuple, and
    the output that the task scores. `replay`: steps are alike, so that on a GPU one can be captured and replayed; not so
    where the loss draws what it does. Raises FloatingPointError if the loss stops being finite, RequestError if
    there is no such device, no training split, or fewer examples than a batch, Paused where it was asked for.
    """
    split, run = _training_split(task, settings), replace(run, device=run.device or training_device())
    objective: Loss = loss or (lambda _inputs, outputs, wanted: task.loss(outputs, wanted))
    try:
        return _train(module, task, split, settings, run, objective, replay)
    finally:  # also where it pauses or fails: who looks at the module then looks here
        module.eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _train(
    module: nn.Module,
    task: Task,
    split: Split,
    settings: TrainingSettings,
    run: TrainingRun,
    objective: Loss,
    replay: bool,
) -> float:
    device = str(run.device)
    rank, take = split.batch(range(1)).inputs[0].ndim, taker(split, device)
    order_of = memory_order(rank, device)
    module.train().to(device, memory_format=order_of)  # type: ignore[call-overload]
    steps_per_epoch = len(split) // settings.batch_size
    total = max(1, round(settings.epochs * steps_per_epoch))
    optimizer = make_optimizer(module, settings)
    done, spent = _resume(run.checkpoint, module, optimizer)
    # where batches differ in length, each length would be captured anew
    replay = replay and not task.free_axes()
    step = make_step(module, optimizer, objective, settings.bf16, replay, task.scored)
    started = time.perf_counter()
    mean_loss = math.nan
    _pause_if_asked(run, done, total, spent)
    while done < total:
        epoch, first = divmod(done, steps_per_epoch)
        # every epoch has its own stream, so that a resumed run sees what an uninterrupted one would have seen
        stream = np.random.SeedSequence([run.seed, epoch]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(stream))
        order = torch.randperm(len(split), generator=generator)
        for number in range(first, min(steps_per_epoch, total - epoch * steps_per_epoch)):
            set_learning_rate(optimizer, settings.learning_rate * learning_rate_share(done / total, settings.warmup))
            (first_input, *others), targets = take(
                order[number * settings.batch_size : (number + 1) * settings.batch_size]
            )
            scale = image_scale(done / total, settings.start_scale)
            batch = (shrunk(task.augment(first_input, generator), scale), *others)
            value = step(tuple(_laid_out(one, order_of) for one in batch), targets)
            done += 1
            if done % 20 == 0 or done == total:
                mean_loss = float(value)
                if not math.isfinite(mean_loss):
                    ways = "lower learning_rate, or give a model whose logits of classes that occur are finite"
                    raise FloatingPointError(f"the loss is {mean_loss} after {done} steps; {ways}")
                run.report(done, total, f"loss {mean_loss:.3f}")
        if run.checkpoint is not None:
            _save(run.checkpoint, module, optimizer, done, spent + time.perf_counter() - started)
            _pause_if_asked(run, done, total, spent + time.perf_counter() - started)
    return spent + time.perf_counter() - started


def _training_split(task: Task, settings: TrainingSettings) -> Split:
    if "train" not in task.splits():
        raise RequestError("the task has no training split, and this step trains")
    split = task.split("train")
    if len(split) < settings.batch_size:
        what = f"batch_size is {settings.batch_size}, and there are {len(split)} training examples; take a smaller one"
        raise RequestError(what)
    if settings.start_scale != 1 and split.batch(range(1)).inputs[0].ndim != 4:
        raise RequestError("start_scale shrinks images, and these inputs are none; leave it out")
    return split


def memory_order(rank: int, device: str) -> torch.memory_format:
    """Return the order in memory in which a training works: channels last for images where that is quick and safe.

    oneDNN's AVX2 kernels write past their memory in the backward pass of thin convolutions in that order (seen with
    PyTorch 2.13: the process is killed), so processors without AVX-512 work in the plain one.
    """
    safe = device != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability()
    return torch.channels_last if safe and rank == 4 else torch.contiguous_format


def _laid_out(tensor: torch.Tensor, order: torch.memory_format) -> torch.Tensor:
    if tensor.ndim != 4:
        return tensor.contiguous()
    if order == torch.channels_last:
        return tensor.contiguous(memory_format=order)
    # a copy, since images of one channel have both orders at once, and PyTorch goes by the strides that they came with
    return tensor.clone(memory_format=order)


def examples_seen(task: Task, settings: StepTraining) -> float:
    """Return how many full-size examples `fit` passes forward and backward; a shrunk one counts by its area."""
    split = task.split("train")
    total = max(1, round(settings.epochs * (len(split) // settings.batch_size)))
    if settings.start_scale == 1:
        return float(total * settings.batch_size)
    height, width = (int(side) for side in split.batch(range(1)).inputs[0].shape[2:])
    sides = (shrunk_sides(height, width, image_scale(done / total, settings.start_scale)) for done in range(total))
    return settings.batch_size * sum(rows * columns for rows, columns in sides) / (height * width)


def _save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, done: int, seconds: float) -> None:
    from safetensors.torch import save_file

    # tied weights stand once; loading fills in the others
    tensors = {f"model.{name}": tensor for name, tensor in untied(module.state_dict()).items()}
    for index, parameter in enumerate(_trained(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{index}.{name}"] = value.contiguous()
    with replaced(path, path.with_suffix(".part")) as part:
        save_file(tensors, str(part), metadata={"progress": json.dumps({"done": done, "seconds": seconds})})


def _resume(path: Path | None, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    if path is None or not path.exists():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        progress = json.loads(file.metadata()["progress"])
    state = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    module.load_state_dict(state | {name: state[one] for name, one in tied_names(module.state_dict()).items()})
    parameters = _trained(optimizer)
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            parameter = parameters[int(index)]
            value = tensor.to(parameter.device)
            if (
                value.shape == parameter.shape
            ):  # files hold the plain order in memory; fused updates want the parameter's
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            optimizer.state[parameter][key] = value
    return progress["done"], progress["seconds"]


def _trained(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
