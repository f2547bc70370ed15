"""The one trainer: dense baselines, fine-tuning and distillation all go through `fit`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from efflab.schedule import TrainingSettings, image_scale, learning_rate_share
from efflab.task import Task
from efflab.tensors import shrunk, shrunk_sides

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (inputs, outputs, targets) -> scalar
Report = Callable[[int, int, str], None]


def fit(
    module: nn.Module,
    task: Task,
    settings: TrainingSettings,
    seed: int,
    loss: Loss | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda done, total, note: None,
) -> float:
    """Train `module` in place on the training split and return the seconds it took, interrupted time included.

    With `checkpoint`, progress is saved after each epoch and an interrupted call goes on where it stopped, batch by
    batch the same. Weights that are zero at the start stay zero: they were pruned. Raises FloatingPointError if the loss
    stops being finite.
    """
    split = task.split("train")
    inputs, targets = torch.from_numpy(split.inputs[0]), torch.from_numpy(split.targets)
    steps_per_epoch = len(split) // settings.batch_size
    total = max(1, round(settings.epochs * steps_per_epoch))
    objective = loss or (lambda _inputs, outputs, wanted: task.loss(outputs, wanted))
    module.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(module, settings)
    done, spent = _resume(checkpoint, module, optimizer)
    pruned = [(weight, weight != 0) for weight in module.parameters() if weight.ndim > 1 and bool((weight == 0).any())]
    started = time.perf_counter()
    mean_loss = math.nan
    while done < total:
        epoch, first = divmod(done, steps_per_epoch)
        # every epoch has its own stream, so that a resumed run sees what an uninterrupted one would have seen
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        order = torch.randperm(len(split), generator=generator)
        for step in range(first, min(steps_per_epoch, total - epoch * steps_per_epoch)):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * learning_rate_share(done / total, settings.warmup)
            index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            batch = shrunk(task.augment(inputs[index], generator), image_scale(done / total, settings.start_scale))
            batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
                outputs = module(batch)
                value = objective(batch, outputs, targets[index])
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for weight, kept in pruned:
                    weight.mul_(kept)
            done += 1
            if done % 20 == 0 or done == total:
                mean_loss = float(value.detach())
                if not math.isfinite(mean_loss):
                    raise FloatingPointError(f"the loss is {mean_loss} after {done} steps; lower learning_rate")
                report(done, total, f"loss {mean_loss:.3f}")
        if checkpoint is not None:
            _save(checkpoint, module, optimizer, done, spent + time.perf_counter() - started)
    module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return spent + time.perf_counter() - started


def examples_seen(task: Task, settings: TrainingSettings) -> float:
    """Return how many full-size examples `fit` passes forward and backward; a shrunk one counts by its area."""
    split = task.split("train")
    total = max(1, round(settings.epochs * (len(split) // settings.batch_size)))
    if settings.start_scale == 1:
        return float(total * settings.batch_size)
    height, width = (int(side) for side in split.inputs[0].shape[2:])
    sides = (shrunk_sides(height, width, image_scale(done / total, settings.start_scale)) for done in range(total))
    return settings.batch_size * sum(rows * columns for rows, columns in sides) / (height * width)


def _optimizer(module: nn.Module, settings: TrainingSettings) -> torch.optim.SGD:
    # biases and norm scales are not decayed (Jia et al. 2018, arXiv 1807.11205, section 3)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)


def _save(path: Path, module: nn.Module, optimizer: torch.optim.SGD, done: int, seconds: float) -> None:
    from safetensors.torch import save_file

    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            tensors[f"momentum.{index}"] = buffer.contiguous()
    part = path.with_suffix(".part")
    save_file(tensors, str(part), metadata={"progress": json.dumps({"done": done, "seconds": seconds})})
    part.replace(path)


def _resume(path: Path | None, module: nn.Module, optimizer: torch.optim.SGD) -> tuple[int, float]:
    if path is None or not path.exists():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        progress = json.loads(file.metadata()["progress"])
    module.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        if f"momentum.{index}" in tensors:
            optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{index}"]
    return progress["done"], progress["seconds"]
