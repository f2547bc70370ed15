"""Which trials are stopped before their end: those that can no longer keep the bounds, or no longer win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efflab.recipe.search_goal import LATENCY, Goal, spelled_value
from efflab.records.trial import Trial

ENOUGH = 4  # finished trials that paused, before a pause tells anything
CLOCK_NOISE = 0.05  # of a time against the baseline's in turn, on a machine that is not quite quiet
SLACK = 1.25  # how much more than the most that was ever won after a pause a trial is believed to win


def by_cost(goal: Goal, values: Mapping[str, float], trials: Sequence[Trial]) -> str:
    """Say why a trial is hopeless by what is known before its training, or "".

    Training moves none of `values`, so a bound that is broken stays broken; and where one of them is all that is
    minimised, a trial above the best so far cannot win (one that equals it may have less error). A time is not held to what
    its noise may have done.
    """
    broken = [bound for bound in goal.bounds if bound.metric in values and bound.excess(values) > _noise(bound.metric)]
    if broken:
        return (
            f"{spelled_value(broken[0].metric, values[broken[0].metric])} before any training, the bound is {broken[0]}"
        )
    if len(goal.minimize) == 1 and goal.minimize[0] in values:
        name = goal.minimize[0]
        best = min((one["values"][name] for one in _fit(goal, trials)), default=float("inf"))
        if values[name] > best * (1 + _noise(name)):
            return f"{spelled_value(name, values[name])} before any training, and {spelled_value(name, best)} is reached already"
    return ""


def by_rung(goal: Goal, values: Mapping[str, float], rung: float, trials: Sequence[Trial], share: bool = True) -> str:
    """Say why a trial is hopeless whose training paused at the validation error `rung`, or "".

    The best that can come of it is the rung less what the luckiest finished trial won after its own, and a quarter more;
    hopeless is what breaks a bound on error even so, or is beaten by a finished trial in everything that is minimised.
    Quality is 1 - error where it is a share; of other metrics no quality is known before the end.
    """
    won = [one["rung"] - one["values"]["error"] for one in trials if one["state"] == "done" and "rung" in one]
    if len(won) < ENOUGH:
        return ""
    hoped = {**values, "error": rung - SLACK * max(*won, 0.0)}
    if share:
        hoped["quality"] = 1 - hoped["error"]
    judged = ("error", "quality") if share else ("error",)
    broken = [bound for bound in goal.bounds if bound.metric in judged and bound.excess(hoped) > 0]
    told = f"error {rung:.4f} after a first part of the training, {hoped['error']:.4f} at the best in the end"
    if broken:
        return f"{told}; the bound is {broken[0]}"
    if all(name in hoped for name in goal.minimize) and any(
        goal.beats(one["values"], hoped) for one in _fit(goal, trials)
    ):
        return f"{told}, which another trial beats"
    return ""


def _noise(metric: str) -> float:
    return CLOCK_NOISE if metric == LATENCY else 0.0


def _fit(goal: Goal, trials: Sequence[Trial]) -> list[Trial]:
    return [one for one in trials if one["state"] == "done" and goal.excess(one["values"]) == 0]
