"""Writes recipes for people, and suggestions as a recipe file that `efflab plan` takes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from efflab.foundation import registry
from efflab.foundation.config import parse_yaml
from efflab.foundation.errors import RequestError
from efflab.foundation.visible import visible
from efflab.suggest.advice import Suggestion
from efflab.suggest.outcome import Recipe, settings_of

NAMED = 2  # recipes that a note names


def telling(step: tuple[str, str]) -> dict[str, Any]:
    """Return the settings of a step that are not the technique's defaults, those of sections in their short form."""
    schema = registry.load("techniques", step[0])
    made = schema.model_validate(settings_of(step))
    found: dict[str, Any] = made.model_dump(mode="json", exclude_defaults=True)
    if schema.short_form in found:
        del found[schema.short_form]  # told by its own defaults, not by those of the technique
        given, usual = getattr(made, schema.short_form), schema.model_fields[schema.short_form].default
        inside = given.model_dump(mode="json")
        found |= {key: value for key, value in inside.items() if value != getattr(usual, key)}
    return found


def compact(recipe: Recipe) -> str:
    """Return a recipe on one line: `prune_channels(ratio=0.3) > finetune(epochs=2) > export_onnx`."""
    steps = []
    for step in recipe:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in telling(step).items())
        steps.append(f"{step[0]}({shown})" if shown else step[0])
    return " > ".join(steps)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def backend_label(text: str) -> str:
    """Return a backend as the records name it; raise RequestError, with the nearest name, for one that is none."""
    from efflab.recipe.backend_choice import BackendChoice

    if not re.fullmatch(r"[^\[\]]+(\[[^\[\]]*\])?", text):
        name, *inside = [part for part in re.split(r"[\[\]]", text) if part] or [""]
        near = (
            f"; did you mean '{name}[{','.join(inside)}]'?" if inside else f"; did you mean {name!r}?" if name else ""
        )
        raise RequestError(f"a backend is NAME or NAME[SETTING=VALUE], with both brackets, not {text!r}{near}")
    name, settings = _parted(text)
    schema = registry.load("backends", name)
    try:
        return BackendChoice(name, schema.model_validate(settings)).label
    except ValueError as error:
        known = ", ".join(schema.model_fields) or "none"
        raise RequestError(f"the backend {name} has no such settings: {text!r}; its settings: {known}") from error


def listed(recipes: Sequence[Recipe]) -> str:
    """Name the first two recipes, and say how many more there are: `cast; fold_norms and 3 more`."""
    more = len(recipes) - NAMED
    return "; ".join(compact(one) for one in recipes[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _parted(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of `openvino[precision=bf16]`."""
    name, _, inside = text.removesuffix("]").partition("[")
    pairs = [part.partition("=") for part in inside.split(",") if part]
    lines = [f"{key.strip()}: {value}" for key, _, value in pairs]
    try:
        return name, parse_yaml("\n".join(lines) or "{}", Path(name)).data
    except RequestError as error:
        raise RequestError(f"the settings of {text!r} cannot be read; write {name}[SETTING=VALUE]") from error


def recipe_yaml(
    baseline: str, backend: str, batch_size: int, suggestions: Sequence[Suggestion], command: str, seeds: Sequence[int]
) -> str:
    """Return a recipe file with a variant for each suggestion, `first` first, and what is expected of each beside it."""
    name, settings = _parted(backend)
    lines = [
        f"# What earlier studies suggest for {visible(baseline)} on {backend} at batch {batch_size}: expectations, not results.",
        f"#   {visible(command)}",
        f"name: suggested-{Path(baseline).stem}",
        f"baseline: {baseline}",
        "variants:",
    ]
    for rank, one in enumerate(suggestions, 1):
        points = f", {one.points.value:+.1f} {visible(one.unit)}" if one.points else ""
        lines.append(
            f"  top{rank}:  # expected {one.gain.value:.2f}x [{one.gain.low:.2f}, {one.gain.high:.2f}]{points}"
        )
        lines += [f"    - {step[0]}: {_flow(telling(step))}" for step in one.recipe]
    lines += [
        "measure:",
        f"  backends: [{_flow({name: settings}) if settings else name}]",
        f"  batch_sizes: [{batch_size}]",
        f"  seeds: {list(seeds)}",
    ]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
