"""What a training keeps after each epoch: weights, optimizer, and where the random numbers are, so that it goes on bit by bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from efflab.artefacts.artefact import tied_names, untied
from efflab.foundation.files import replaced

RANDOM = "random"  # the state of PyTorch's generator: dropout and losses draw from it


def save_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, done: int, seconds: float) -> None:
    """Write a checkpoint beside its place and rename it; nothing of it stays where there is no room for all."""
    from safetensors.torch import save_file

    # tied weights stand once; loading fills in the others
    tensors = {f"model.{name}": tensor for name, tensor in untied(module.state_dict()).items()}
    for index, parameter in enumerate(_trained(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{index}.{name}"] = value.contiguous()
    tensors[RANDOM] = torch.get_rng_state()
    with replaced(path, path.with_suffix(".part")) as part:
        save_file(tensors, str(part), metadata={"progress": json.dumps({"done": done, "seconds": seconds})})


def resumed(path: Path | None, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Go on from a checkpoint: return the steps that are done and the seconds they took; (0, 0.0) where there is none.

    One that cannot be read, or is of another model, is no checkpoint.
    """
    if path is None or not path.exists():
        return 0, 0.0
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            progress = json.loads(file.metadata()["progress"])
        done, seconds = int(progress["done"]), float(progress["seconds"])
    except (SafetensorError, OSError, ValueError, TypeError, LookupError):
        return 0, 0.0
    state = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    parameters = _trained(optimizer)
    if not _fits(state, module) or not _known(tensors, len(parameters)):
        return 0, 0.0
    module.load_state_dict(state | {name: state[one] for name, one in tied_names(module.state_dict()).items()})
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            parameter = parameters[int(index)]
            value = tensor.to(parameter.device)
            if value.shape == parameter.shape:
                # files hold the plain order in memory; fused updates want the parameter's
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            optimizer.state[parameter][key] = value
    if RANDOM in tensors:
        torch.set_rng_state(tensors[RANDOM])
    return done, seconds


def _fits(state: Mapping[str, Tensor], module: nn.Module) -> bool:
    """Say whether weights are those of a module, tied ones once."""
    wanted = untied(module.state_dict())
    return {name: tensor.shape for name, tensor in state.items()} == {name: one.shape for name, one in wanted.items()}


def _known(tensors: Mapping[str, Tensor], parameters: int) -> bool:
    """Say whether what an optimizer kept is of so many parameters."""
    places = [name.split(".", 2)[1:] for name in tensors if name.startswith("optimizer.")]
    return all(len(place) == 2 and place[0].isdecimal() and int(place[0]) < parameters for place in places)


def _trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
