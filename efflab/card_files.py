"""Checks the files that cards name before any work, without importing torch; weights at a URL are checked when they come."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from efflab.baseline import Baseline
from efflab.errors import Problem, RequestError


def file_problems(baselines: Iterable[Baseline], seeds: Iterable[int]) -> list[Problem]:
    """Return what is missing or damaged of the files that these cards name for `seeds`."""
    return [problem for baseline in baselines for problem in _problems(baseline, tuple(seeds))]


def seed_notes(baselines: Iterable[Baseline], seeds: Iterable[int]) -> list[str]:
    """Return a sentence for each card that lacks weights of some of the recipe's seeds and uses others instead."""
    notes = []
    for baseline in baselines:
        known = [weights.seed for weights in baseline.card.weights]
        lacking = [seed for seed in seeds if seed not in known]
        if known and lacking:
            notes.append(
                f"card {baseline.name} has weights for {_seeds(known)}; "
                f"for {_seeds(lacking)} those of seed {baseline.seed_for(lacking[0])} are used"
            )
    return notes


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _problems(baseline: Baseline, seeds: tuple[int, ...]) -> list[Problem]:
    card, checks = baseline.card, list[Callable[[], Any]]()
    if card.onnx:
        checks = [baseline.onnx_file]
    elif card.torch_export:
        checks = [partial(_exported, baseline)]
    else:
        if card.python:
            checks = [partial(baseline.existing, card.python.file, ("python", "file"))]
        used = dict.fromkeys(baseline.seed_for(seed) for seed in seeds)
        here = [weights for weights in card.weights if weights.seed in used and weights.file is not None]
        checks += [partial(baseline.weights_file, weights) for weights in here]
        if not card.weights:
            checks.append(partial(_untrained, baseline))
    found: list[Problem] = []
    for check in checks:
        try:
            check()
        except RequestError as error:
            found += error.problems
    return found


def _exported(baseline: Baseline) -> None:
    path = baseline.existing(str(baseline.card.torch_export), ("torch_export",))
    if not zipfile.is_zipfile(path):
        what = f"{path.name} is no torch.export file (.pt2); write it with torch.export.save"
        raise RequestError(Problem(baseline.document.where(("torch_export",)), what))


def _untrained(baseline: Baseline) -> None:
    what = f"the card has no weights yet; `efflab train {baseline.name}` makes them"
    if baseline.card.training is None:
        what = "the card has no weights, and no `training` section to make them with; name a safetensors file"
    raise RequestError(Problem(baseline.document.where(("weights",)), what))
