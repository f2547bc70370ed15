"""Makes outcomes whose gains are known, without any study behind them."""

from __future__ import annotations

import json
import math
from typing import Any

from efflab.suggest.outcome import Model, Outcome, Ratio, Recipe, Target
from efflab.suggest.past_studies import Experience

HERE = Target("onnxruntime", 1, "m1")


def model(name: str = "digits-resnet-w8", macs: float = 1e6, **more: Any) -> Model:
    """A dense model; family and kind follow from the name."""
    family = name.rpartition("-")[0]
    told: dict[str, Any] = {
        "kind": family.rpartition("-")[2], "family": family, "task": "digits_clutter", "metric": "accuracy",
        "macs": macs, "params": macs / 10, "error": 0.1,
    }  # fmt: skip
    return Model(name=name, **(told | more))


def recipe(*steps: str | tuple[str, dict[str, Any]]) -> Recipe:
    """A recipe of techniques, with settings where they are given."""
    pairs = [(step, {}) if isinstance(step, str) else step for step in steps]
    return tuple((name, json.dumps(settings, sort_keys=True)) for name, settings in pairs)


def prune(ratio: float) -> Recipe:
    """Channels pruned at a ratio."""
    return recipe(("prune_channels", {"ratio": ratio}))


def outcome(
    of: Model, what: Recipe, gain: float, error: float = 1.0, place: Target = HERE, study: str = "s", **more: float
) -> Outcome:
    """A recipe that gave M = `gain` in time, and `error` times the error."""
    gains = {goal: Ratio(math.log(value), 0.01) for goal, value in {"time": gain, **more}.items()}
    return Outcome(of, place, what, study, 1, gains, Ratio(math.log(error), 0.01))


def experience(outcomes: list[Outcome]) -> Experience:
    """What these outcomes tell."""
    models = {one.model.name: one.model for one in outcomes}
    return Experience(tuple(outcomes), models, len(outcomes), 1, {"m1": "Test CPU"})
