"""Prints what suggestions are worth: trials to near the best recipe, by baseline and place, or by goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efflab.suggest.leave_one_out import LeftOut, Summary
    from efflab.suggest.past_studies import Experience

WORDS = {"random": "random order", "search": "plain search", "suggest_and_learn": "suggest that learns from its trials"}


def show_trials(experience: Experience, goal: str, hide: str, style: str) -> list[str]:
    """Print the table of a goal, or a line for each goal where it is "all"; return the lines that belong under it."""
    from efflab.cli._tables import show
    from efflab.suggest.leave_one_out import LeftOut, leave_one_out, summary
    from efflab.suggest.outcome import GOALS

    told = f"from {experience.records:,} records of {experience.studies} studies; hidden: each {hide} in turn"
    lines = [f"trials until within 5 % of the best known recipe, each baseline counting once; {told}"]
    if goal == "all":
        found = {one: summary(leave_one_out(experience, one, hide)) for one in GOALS}
        rows = [_line(one, whole) for one, whole in found.items() if whole]
        show(rows, style, list(rows[0]) if rows else ["goal"])
        return [*lines, *_few([one for one, whole in found.items() if not whole])]
    places = leave_one_out(experience, goal, hide)
    whole = summary(places)
    if style in ("csv", "json"):
        show([one._asdict() for one in places], style, LeftOut._fields)
    if not whole:
        return _few([goal])
    if style not in ("csv", "json"):
        rows = [_place(one) for one in places]
        mean = _means(whole)
        rows.append({**dict.fromkeys(rows[0], ""), "baseline": f"mean of {whole.baselines} baselines", **mean})
        show(rows, style, list(rows[0]))
    missing = {one.baseline: one.missing for one in places if one.missing}
    return [*lines, *_saved(whole), *(f"{name}: {why}; random order instead" for name, why in missing.items())]


def _few(goals: list[str]) -> list[str]:
    return [f"no baseline has five recipes at one place with the goal {', '.join(goals)}"] if goals else []


def _place(one: LeftOut) -> dict[str, Any]:
    from efflab.suggest.leave_one_out import METHODS

    return {
        "baseline": one.baseline, "backend": one.backend, "batch": one.batch_size, "recipes": one.recipes,
        "near best": one.near_best, "with basis": one.listed,
        **{name.replace("_", " "): f"{getattr(one, name):.1f}" for name in METHODS},
    }  # fmt: skip


def _line(goal: str, whole: Summary) -> dict[str, Any]:
    return {
        "goal": goal, "baselines": whole.baselines, **_means(whole),
        "saved against search [95 %]": _fewer(whole.saved["search"]), "and by learning": _fewer(whole.learning),
        "first is near best": f"{100 * whole.first:.0f} %", "in 90 % interval": f"{100 * whole.inside:.0f} %",
    }  # fmt: skip


def _fewer(saved: tuple[float, float, float]) -> str:
    return f"{saved[0]:+.2f} [{saved[1]:+.2f}, {saved[2]:+.2f}]"


def _means(whole: Summary) -> dict[str, str]:
    return {name.replace("_", " "): f"{value:.2f}" for name, value in whole.trials.items()}


def _saved(whole: Summary) -> list[str]:
    """Say how suggest stands against each other method, and how far its expectations can be trusted."""
    lines = []
    pairs = [("suggest", method, saved) for method, saved in whole.saved.items()]
    for one, method, saved in [*pairs, ("suggest and learn", "search", whole.learning)]:
        verdict = (
            "it takes fewer"
            if saved[1] > 0
            else "it takes more"
            if saved[2] < 0
            else "no difference that these can show"
        )
        lines.append(f"{one} against {WORDS[method]}: {_fewer(saved)} trials saved [95 %], {verdict}")
    return [
        *lines,
        f"the first suggestion is near the best in {100 * whole.first:.0f} % of places, each baseline weighing alike",
        f"{100 * whole.inside:.0f} % of the hidden gains lay in the 90 % interval that was expected of them",
    ]
