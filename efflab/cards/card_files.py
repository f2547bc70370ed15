"""Checks the files that cards name before any work, without importing torch; weights at a URL are checked when they come."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from efflab.artefacts.interface import graph_ports
from efflab.artefacts.program_archive import check_program_file
from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.card_paths import find_card
from efflab.cards.hugging_face.checkpoint import KEY, lacking
from efflab.cards.hugging_face.fit import misfits, notes
from efflab.contracts.text_task import TextTask
from efflab.foundation.config import Document, Key
from efflab.foundation.errors import Problem, RequestError


def file_problems(baselines: Iterable[Baseline], seeds: Iterable[int]) -> list[Problem]:
    """Return what is missing or damaged of the files that these cards name for `seeds`."""
    return [problem for baseline in baselines for problem in _problems(baseline, tuple(seeds))]


def seed_notes(baselines: Iterable[Baseline], seeds: Iterable[int]) -> list[str]:
    """Return a sentence for each card that lacks weights of some of the recipe's seeds and uses others instead."""
    found = []
    for baseline in baselines:
        known = [weights.seed for weights in baseline.card.weights]
        lacking = [seed for seed in seeds if seed not in known]
        if known and lacking:
            found.append(
                f"card {baseline.name} has weights for {_seeds(known)}; "
                f"for {_seeds(lacking)} those of seed {baseline.seed_for(lacking[0])} are used"
            )
    return found


def checkpoint_notes(baselines: Iterable[Baseline]) -> list[str]:
    """Return a sentence for each thing that the user should know of how models of Hugging Face are used."""
    named = [baseline for baseline in baselines if baseline.card.hugging_face and not baseline.encoder]
    return [
        f"card {baseline.name}: {note}" for baseline in named for note in notes(baseline.checkpoint(), baseline.task)
    ]


def data_notes(baselines: Iterable[Baseline]) -> list[str]:
    """Return what tasks say of their data, and how labels become classes where only the user knows, each sentence once."""
    listed = list(baselines)
    by_task = {baseline.task_key(): baseline.task for baseline in listed}  # members of a family read the same files
    found = [note for task in by_task.values() for note in task.notes()]
    found += [_assumed_order(one) for one in listed if one.encoder and not one.trained_here]
    return [note for note in dict.fromkeys(found) if note]


def _assumed_order(baseline: Baseline) -> str:
    """Return how the labels are taken to be the classes of a checkpoint that does not name them; "" where it does."""
    from efflab.cards.hugging_face.text_classifier import class_names_of

    task = baseline.task
    if class_names_of(baseline.checkpoint().config) or not isinstance(task, TextTask) or task.order_is_stated:
        return ""
    order = ", ".join(f"{place} is {name}" for place, name in enumerate(task.class_names[:8]))
    return f"card {baseline.name}: the model does not name its classes; they are taken as {order} (`labels` says otherwise)"


def start_card(name: str, reference: Baseline, document: Document, key: Key) -> Baseline:
    """Return the card from which steps start in place of `reference`; raise RequestError for one of another task or form."""
    baseline = load_baseline(find_card(name, document.path))
    if baseline.card.task != reference.card.task:
        ours, theirs = (next(iter(one.card.task)) for one in (reference, baseline))
        what = f"{name} is of another task ({theirs}) than {reference.name} ({ours}), or of other settings of it"
        raise RequestError(Problem(document.where(key), what))
    if baseline.form != reference.form:
        raise RequestError(
            Problem(document.where(key), f"{name} is not of the form of {reference.name} (torch or ONNX)")
        )
    if not baseline.seeds():
        what = f"{name} has no weights yet; `efflab train {name}` makes them"
        raise RequestError(Problem(document.where(key), what))
    return baseline


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _problems(baseline: Baseline, seeds: tuple[int, ...]) -> list[Problem]:
    card, checks = baseline.card, list[Callable[[], Any]]()
    if baseline.encoder:
        checks = [partial(_encoder, baseline), *_weight_checks(baseline, seeds)]
    elif card.hugging_face:
        checks = [partial(_checkpoint, baseline), partial(_packages, baseline)]
    elif card.onnx:
        checks = [partial(_graph, baseline)]
    elif card.torch_export:
        checks = [partial(_exported, baseline)]
    else:
        if card.python:
            checks = [partial(baseline.existing, card.python.file, ("python", "file"))]
        checks += _weight_checks(baseline, seeds)
        if not card.weights:
            checks.append(partial(_untrained, baseline))
    found: list[Problem] = []
    for check in checks:
        try:
            check()
        except RequestError as error:
            found += error.problems
    return found


def _weight_checks(baseline: Baseline, seeds: tuple[int, ...]) -> list[Callable[[], Any]]:
    used = dict.fromkeys(baseline.seed_for(seed) for seed in seeds)
    here = [weights for weights in baseline.card.weights if weights.seed in used and weights.file is not None]
    return [partial(baseline.weights_file, weights) for weights in here]


def _encoder(baseline: Baseline) -> None:
    """Check a text encoder of Hugging Face against its task, and that what is trained here has been trained."""
    from efflab.cards.hugging_face.text_classifier import PACKAGES, text_misfits

    place = baseline.document.where(KEY)
    wrong = text_misfits(*baseline.encoder_parts(), baseline.trained_here)
    problems = [Problem(place, what) for what in (*wrong, lacking(PACKAGES)) if what]
    if problems:
        raise RequestError(problems)
    if baseline.trained_here and not baseline.card.weights:
        _untrained(baseline)


def _checkpoint(baseline: Baseline) -> None:
    place = baseline.document.where(KEY)
    wrong = misfits(baseline.checkpoint(), baseline.task)
    if wrong:
        raise RequestError([Problem(place, what) for what in wrong])


def _packages(baseline: Baseline) -> None:
    if lacking():
        raise RequestError(Problem(baseline.document.where(KEY), lacking()))


def _graph(baseline: Baseline) -> None:
    """Check that an ONNX file is whole, takes what the task gives, and gives what the task can score."""
    from efflab.cards.model_check import check_graph_file

    path, card = baseline.onnx_file(), baseline.card
    try:
        given = [port.name for port in graph_ports(path)[0]]
        if card.inputs and sorted(card.inputs) != sorted(given):
            what = f"must name each input of {path.name} once: {', '.join(given)}"
            raise RequestError(Problem(baseline.document.where(("inputs",)), what))
        check_graph_file(path, baseline.task, card.inputs, card.output)
    except RequestError as error:
        raise error.at(baseline.document.where(("onnx",))) from error


def _exported(baseline: Baseline) -> None:
    path, place = baseline.existing(str(baseline.card.torch_export), ("torch_export",)), baseline.source()
    if not zipfile.is_zipfile(path):
        raise RequestError(
            Problem(place, f"{path.name} is no torch.export file (.pt2); write it with torch.export.save")
        )
    try:
        check_program_file(path)
    except RequestError as error:
        raise RequestError([Problem(place, str(one)) for one in error.problems]) from error


def _untrained(baseline: Baseline) -> None:
    what = f"the card has no weights yet; `efflab train {baseline.name}` makes them"
    if baseline.card.training is None:
        what = "the card has no weights, and no `training` section to make them with; name a safetensors file"
    raise RequestError(Problem(baseline.document.where(("weights",)), what))
