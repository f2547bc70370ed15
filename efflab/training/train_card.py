"""Trains a card's model for one seed and writes weights, score and cost into the card."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from efflab.artefacts.interface import Interface
from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.card import MOST_SEED, Weights
from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import file_digest, replaced, write_atomically
from efflab.foundation.progress import Report
from efflab.foundation.wording import one_line

WEIGHTS_MARK = "# below: written by `efflab train`\n"
TOLERANCE = 0.01  # least tolerance of a promise; seeds that differ more widen it


def refusals(baselines: Iterable[Baseline], seeds: Iterable[int], again: bool) -> list[Problem]:
    """Return why these cards cannot be trained with these seeds; `again` allows those that are trained already."""
    found = [
        Problem("--seed", f"must be a whole number from 0 to {MOST_SEED}, not {one}")
        for one in seeds
        if not 0 <= one <= MOST_SEED
    ]
    for baseline in baselines:
        if baseline.card.training is None:
            what = "has no `training` section, so efflab cannot train it; bring weights instead"
            found.append(Problem(baseline.document.where(()), what))
        elif not again:
            found += [_trained_already(baseline, weights) for weights in baseline.card.weights if weights.seed in seeds]
    return found


def _trained_already(baseline: Baseline, weights: Weights) -> Problem:
    quality = "" if weights.quality is None else f" ({baseline.task.metric} {weights.quality:.4f})"
    place = baseline.document.where(("weights", baseline.card.weights.index(weights)))
    return Problem(place, f"seed {weights.seed} is trained already{quality}; train it again with --force")


def train_seed(baseline: Baseline, seed: int, checkpoints: Path, report: Report) -> Weights:
    """Train (or go on training) `baseline` with `seed` and record the result in its card.

    The test split is scored once, at the end; weights of the same seed are replaced only after that. Raises RequestError
    for cards that name no training settings.
    """
    import torch
    from safetensors.torch import save

    from efflab.training.cost import training_cost
    from efflab.training.trainer import examples_seen, fit

    card, task = baseline.card, baseline.task
    problems = refusals([baseline], [seed], again=True)
    if problems or card.training is None:
        raise RequestError(problems)
    torch.manual_seed(seed)
    module = baseline.fresh()
    settings = card.training
    checkpoints.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoints / checkpoint_name(baseline, seed)
    task = task.for_model(outputs_of(module, task, card.output))
    seconds = fit(module, task, settings, seed, checkpoint=checkpoint, report=report)
    path = baseline.document.path.parent / f"{card.name}-s{seed}.safetensors"
    # in half the bytes; it is the rounded weights that are scored
    there = baseline.of_checkpoint(module)
    stored = {
        name: tensor.half() if tensor.ndim > 1 and tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
        if name not in there
    }
    module.load_state_dict(module.state_dict() | stored)
    with replaced(path, path.with_name(f".{path.name}.part")) as part:
        # a card's file is a plain state dict, in which tied weights stand under each of their names
        part.write_bytes(save({name: tensor.detach().clone().contiguous() for name, tensor in stored.items()}))
        cost = training_cost(module, task, examples_seen(task, settings), seconds)
        quality = score(module, task)
        metric = task.metrics[0]
        if not (math.isfinite(quality) and metric.error(quality) >= 0):
            what = f"its {metric.name} is {quality:.6g}, which has no error from 0 on; the training is kept at {checkpoint}"
            raise RequestError(f"{card.name} is trained, but {what}")
        weights = Weights(
            seed=seed,
            file=path.name,
            sha256=file_digest(part),
            quality=round(quality, 6),
            training_macs=float(cost.training_macs),
            seconds=round(seconds, 1),
            hardware_burden_flop=float(cost.hardware_burden_flop),
        )
    record(baseline.document.path, weights)
    checkpoint.unlink()
    return weights


def checkpoint_name(baseline: Baseline, seed: int) -> str:
    """Return the file name of a training's checkpoint; other settings have another."""
    card = baseline.card
    identity = hashlib.sha256(repr((card.model, card.python, card.training, card.task, seed)).encode()).hexdigest()
    return f"{card.name}-s{seed}-{identity[:12]}.safetensors"


def outputs_of(module: Any, task: Any, output: int | str | None) -> Interface:
    """Return the outputs of a module that is to be trained, and which one is scored, found on two training examples.

    Raises RequestError, before any training, for a model that does not run on them or gives nothing that can be scored.
    """
    import torch

    from efflab.artefacts.interface import output_ports
    from efflab.cards.model_check import refuse_other_order, scored_place
    from efflab.contracts.examples import example_inputs, input_names

    inputs = example_inputs(task)
    refuse_other_order(module, input_names(task))
    module.eval()
    try:
        with torch.no_grad():
            outputs = module(*inputs)
    except MemoryError:
        raise
    except Exception as error:
        raise RequestError(f"the model does not run on what the task gives: {one_line(error)}") from error
    ports = output_ports(outputs, len(inputs[0]))
    return Interface(outputs=ports, scored=scored_place(task, ports, output))


def score(module: Any, task: Any) -> float:
    """Return the metric of a torch module on the test split."""
    import torch

    from efflab.contracts.examples import quality_batch
    from efflab.contracts.module_session import ModuleSession
    from efflab.profiling.quality import evaluate

    split = task.split("test")
    session = ModuleSession(module.eval(), torch.float32)
    return float(task.quality(evaluate(session, task, split, quality_batch(task, split))))


def record(path: Path, weights: Weights) -> None:
    """Put one set of weights into a card, in the part below the mark; the prose above it stays as it is."""
    card = load_baseline(path).card
    kept = [one for one in card.weights if one.seed != weights.seed]
    entries = sorted([*kept, weights], key=lambda one: one.seed)
    head = path.read_text(encoding="utf-8").split(WEIGHTS_MARK)[0].rstrip("\n") + "\n"
    written: dict[str, Any] = {}
    scores = [one.quality for one in entries if one.quality is not None]
    if scores:
        spread = max(scores) - min(scores)
        written["promise"] = {"value": round(mean(scores), 6), "tolerance": round(max(TOLERANCE, 1.5 * spread), 6)}
    written["weights"] = [one.model_dump(exclude_none=True) for one in entries]
    write_atomically(path, head + WEIGHTS_MARK + yaml.safe_dump(written, sort_keys=False))
