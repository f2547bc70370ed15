"""One step of training: forward, backward, update. On a GPU the whole step is captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from efflab.contracts.training_section import TrainingSettings
from efflab.model_surgery.pruning.weight_masks import pruned_weights

Inputs = tuple[Tensor, ...]  # of a batch, examples first
Loss = Callable[[Inputs, Any, Any], Tensor]  # (inputs, the scored output, targets) -> scalar
Step = Callable[[Inputs, Any], Tensor]  # (inputs, targets) -> the loss before the update, detached


def make_optimizer(module: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimizer of `settings`; on a GPU its learning rate is a tensor, so that captured steps see it change."""
    # biases and norm scales are not decayed (Jia et al. 2018, arXiv 1807.11205, section 3)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    on_gpu = any(parameter.is_cuda for parameter in parameters)
    rate: Any = torch.tensor(settings.learning_rate, device="cuda") if on_gpu else settings.learning_rate
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=on_gpu or None, capturable=on_gpu)
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=on_gpu or None)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def make_step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Loss,
    bf16: bool,
    replay: bool = True,
    scored: Callable[[Any], Any] = lambda outputs: outputs,
) -> Step:
    """Return the step that trains `module` in place; what a pruning step set to zero stays zero.

    scored: takes what the objective wants of the outputs.
    replay: on a GPU, capture one step and replay it; wrong where steps differ in more than their examples.
    """
    device = next(module.parameters()).device
    pruned = [(weight, weight != 0) for weight in pruned_weights(module)]

    def step(inputs: Inputs, targets: Any) -> Tensor:
        # cached casts would outlive the capture that they were made in
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=device.type == "cpu"):
            value = objective(inputs, scored(module(*inputs)), targets)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for weight, kept in pruned:
                weight.mul_(kept)
        return value.detach()

    return _captured(step) if device.type != "cpu" and replay else step


def _captured(step: Step) -> Step:
    """Return `step` as one CUDA graph per input shape: a small net's step is hundreds of launches, each of which costs.

    The first step of a shape runs as it is, so that libraries choose their kernels and the optimizer makes its state.
    """
    graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, Inputs, Tensor, Tensor]] = {}
    warm: set[tuple[torch.Size, ...]] = set()

    def first(inputs: Inputs, targets: Tensor) -> Tensor:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            value = step(inputs, targets)
        torch.cuda.current_stream().wait_stream(side)
        return value

    def run(inputs: Inputs, targets: Any) -> Tensor:
        if not isinstance(targets, Tensor):  # structures may differ from batch to batch
            return step(inputs, targets)
        shape = tuple(one.shape for one in inputs)
        if shape not in warm:
            warm.add(shape)
            return first(inputs, targets)
        if shape not in graphs:
            own = tuple(torch.empty_like(one) for one in inputs), torch.empty_like(targets)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                value = step(*own)
            graphs[shape] = (graph, *own, value)
        graph, own_inputs, own_targets, value = graphs[shape]
        for mine, given in zip(own_inputs, inputs, strict=True):
            mine.copy_(given)
        own_targets.copy_(targets)
        graph.replay()
        return value

    return run
