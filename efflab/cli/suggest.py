"""Propose which recipes to try first on a baseline, from the outcomes of earlier studies; no model is run.

Each recipe that was measured anywhere and can stand on the baseline gets an expected gain and expected points with 90 %
intervals, by a Gaussian process over recipes, baselines and places. The order is that in which to try them: each next recipe is
the one most likely to come within 5 % of the best if none before it does, so a near copy of one that is listed comes late. The
command says where it has no basis: a kind of network, a backend or a metric that no study holds. --leave-one-out shows what the
order is worth: every baseline of the records is hidden in turn, and the trials are counted until near its best recipe.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efflab.records.store import LocalStore
    from efflab.suggest.advice import Advice, Suggestion
    from efflab.suggest.outcome import Model, Target
    from efflab.suggest.past_studies import Experience

HELP = "which recipes to try first on a baseline, from earlier studies, and what that is worth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("baseline", nargs="?", metavar="BASELINE", help="a card, by its name or its file")
    goals = "M in time, macs, bits, bytes, energy or memory, or speedup; with --leave-one-out also all"
    add("--goal", default="time", help=f"{goals} (default: time)")
    add("--backend", default="onnxruntime", help="e.g. openvino or 'openvino[precision=bf16]' (default: onnxruntime)")
    add("--batch", type=int, default=1, metavar="N", help="examples in one call (default: 1)")
    add(
        "--within",
        type=float,
        metavar="POINTS",
        help="only recipes that are expected to lose no more points than these",
    )
    add("--untried", action="store_true", help="leave out recipes that were measured on this baseline at this place")
    add("--top", type=int, default=8, metavar="N", help="how many recipes (default: 8)")
    add("--records", action="append", type=Path, metavar="PATH",
        help="a study.json or a folder of studies, repeatable (default: reports/ and the studies of the store)")  # fmt: skip
    add("--yaml", type=Path, metavar="FILE", help="also write the suggestions as a recipe for `efflab run`")
    add(
        "--leave-one-out",
        action="store_true",
        help="instead: trials to near the best recipe, every baseline hidden in turn",
    )
    add(
        "--hide",
        choices=("baseline", "family"),
        default="baseline",
        help="what --leave-one-out hides (default: baseline)",
    )
    add("--format", default="simple", help="any tabulate format, csv or json (default: simple)")


def run(args: argparse.Namespace) -> int:
    """Print the suggestions, or the leave-one-out table."""
    from efflab.cli._trials import show_trials
    from efflab.foundation.errors import RequestError, nearest
    from efflab.recipe.measure import MOST_BATCH
    from efflab.records.store import LocalStore
    from efflab.reporting.table import check_style
    from efflab.suggest.outcome import GOALS
    from efflab.suggest.past_studies import read, study_files
    from efflab.suggest.writing import backend_label

    check_style(args.format)
    if args.goal not in GOALS and not (args.leave_one_out and args.goal == "all"):
        raise RequestError(f"unknown --goal {args.goal!r}; {nearest(args.goal, GOALS)}")
    if args.leave_one_out == (args.baseline is not None):
        raise RequestError("name a baseline, or give --leave-one-out, which takes all that the records hold")
    if not 1 <= args.batch <= MOST_BATCH:
        raise RequestError(f"--batch must be from 1 to {MOST_BATCH:,}, the most that a recipe may measure")
    if args.top < 1:
        raise RequestError("--top must be 1 or more")
    if args.within is not None and not args.within >= 0:
        raise RequestError("--within is a loss in points, 0 or more")
    if args.yaml and args.yaml.exists():
        raise RequestError(f"--yaml {args.yaml} is there already; name another file, or take it away")
    if args.yaml and not args.yaml.parent.is_dir():
        raise RequestError(f"--yaml {args.yaml}: there is no folder {args.yaml.parent}; make it first")
    args.backend = backend_label(args.backend)
    store = LocalStore.open()
    experience = read(study_files(args.records, store), store)
    if args.leave_one_out:
        say([*show_trials(experience, args.goal, args.hide, args.format), *experience.notes], args.format)
        return 0
    return _suggest(args, experience, store)


def _suggest(args: argparse.Namespace, experience: Experience, store: LocalStore) -> int:
    from efflab.cards.card_paths import find_card
    from efflab.cli._tables import show
    from efflab.foundation.machine import fingerprint, machine_id
    from efflab.suggest.advice import advise, gaps, unmeasured
    from efflab.suggest.candidates import asked_model, counted, legal, training_of
    from efflab.suggest.outcome import Target
    from efflab.suggest.past_studies import recipes
    from efflab.suggest.writing import listed

    plain = args.format in ("csv", "json")
    if not experience.outcomes:
        find_card(args.baseline)  # a wrong name is told all the same
        if plain:
            show([], args.format, RAW)
        what = "no study at hand has a variant that was measured; `efflab run` makes one, --records names others"
        say([f"no basis: {what}", *experience.notes], args.format)
        return 0
    model, form = asked_model(args.baseline, experience)
    place = Target(args.backend, args.batch, machine_id(fingerprint()))
    notes: tuple[str, ...] = ()
    if not gaps(experience, model, place, args.goal):  # else there is nothing that a count would tell
        model, notes = counted(model, args.baseline, store)
    training = training_of(args.baseline)
    known, unfit = legal(recipes(experience.outcomes), form, model.task, args.backend, experience, training)
    measured = {one.recipe for one in experience.outcomes if args.goal in one.gains}
    silent = [one for one in known if one not in measured]
    if silent:
        unfit[f"no record has its {args.goal}"] = silent
    tried = {
        one.recipe
        for one in experience.outcomes
        if one.model.name == model.name and (one.place.backend, one.place.batch_size) == (args.backend, args.batch)
    }
    chosen = [one for one in known if one in measured and not (args.untried and one in tried)]
    advice = advise(experience, model, place, args.goal, chosen, args.within, store)
    top = advice.suggestions[: args.top]
    rows = [(_raw if plain else _shown)(rank, one, args) for rank, one in enumerate(top, 1)]
    if rows or plain:
        show(rows, args.format, list(rows[0]) if rows else list(RAW))
    lines = [*_basis(experience, advice, args), *_machines(experience, model, place, args.goal), *notes]
    lines += [] if advice.missing else unmeasured(experience, place, args.goal)
    lines += [
        f"{len(some)} recipe{'s' * (len(some) != 1)} left out ({why}): {listed(some)}" for why, some in unfit.items()
    ]
    say([*lines, *experience.notes, *_write(args, model, top)], args.format)
    return 0


ORDER = (
    "the rank is the order in which to try: each next recipe is the likeliest to be near the best gain if none before it is, so "
    "a surer one can stand further down"
)
RAW = (
    "rank", "recipe", "gain", "gain_low", "gain_high", "points", "points_low", "points_high", "probability_within",
    "records", "baselines", "measured",
)  # fmt: skip


def _raw(rank: int, one: Suggestion, args: argparse.Namespace) -> dict[str, Any]:
    from efflab.suggest.writing import compact

    gain, points = one.gain, one.points or (None, None, None)
    values = (rank, compact(one.recipe), *gain, *points, one.within, one.records, " ".join(one.baselines), one.measured)
    return dict(zip(RAW, values, strict=True))


def _shown(rank: int, one: Suggestion, args: argparse.Namespace) -> dict[str, Any]:
    from efflab.reporting.numbers import points_text, ratio_text
    from efflab.suggest.writing import compact

    gain = "speed-up" if args.goal == "speedup" else f"M, {args.goal}"
    row: dict[str, Any] = {"": rank, f"expected {gain} [90 %]": ratio_text(*one.gain)}
    row[f"expected {one.unit} [90 %]"] = points_text(*one.points) if one.points else "no basis"
    if args.within is not None:
        row[f"chance to lose at most {_points(args.within, one.unit)}"] = f"{100 * (one.within or 0):.0f} %"
    names = one.baselines
    told = names[0] if len(names) == 1 else f"{len(names)} baselines"
    row["evidence"] = (
        f"{one.records} record{'s' * (one.records != 1)}, {told}"
        f"{', measured here' if one.measured else '' if one.kin else ', none of this kind of network'}"
    )
    return {**row, "recipe": compact(one.recipe)}


def _basis(experience: Experience, advice: Advice, args: argparse.Namespace) -> list[str]:
    """Say what the expectations rest on, and what is not in the table."""
    seen = f"{experience.records:,} records of {experience.studies} studies"
    if advice.missing:
        return [f"no basis: {'; '.join(advice.missing)} (read: {seen})"]
    lines = [f"from {advice.data:,} outcomes, in {seen}; expected is the median of what a measurement would give"]
    if not advice.suggestions:
        lines.insert(0, "no suggestion")
        return lines + _hidden(advice, args)
    lines.append(ORDER)
    if args.goal != "speedup" and all(one.gain.value < 1 for one in advice.suggestions[: args.top]):
        lines.append("all M are expected below 1: a smaller dense net of the family is expected to give more")
    return lines + _hidden(advice, args)


def _points(count: float, unit: str = "points") -> str:
    return f"{count:g} {unit.removesuffix('s') if count == 1 else unit}"


def _hidden(advice: Advice, args: argparse.Namespace) -> list[str]:
    """Say how many recipes are not in the table, and why."""
    beyond = len(advice.suggestions) - args.top
    most = _points(args.within or 0, advice.unit)
    left = [
        (beyond, "come after these (--top)"),
        (
            advice.too_lossy,
            f"are expected to lose more than {most}, or nothing is known of their loss",
        ),
        (advice.no_basis, "have no basis: too unlike all that was measured in a context like this one"),
    ]
    told = [f"{count} {why}" for count, why in left if count > 0]
    return [f"not shown: {'; '.join(told)}"] if told else []


def _machines(experience: Experience, model: Model, place: Target, goal: str) -> list[str]:
    """Say how much of what is known of times was measured on other machines."""
    from efflab.suggest.outcome import COUNTED

    timed = [one.place.machine for one in experience.outcomes if goal in one.gains]
    others = list(dict.fromkeys(one for one in timed if one != place.machine))
    if goal in COUNTED or not others:
        return []
    names = ", ".join(f"{experience.machines.get(one, one)} ({one})" for one in others)
    here = len([one for one in timed if one == place.machine])
    share = "all" if not here else f"{len(timed) - here:,} of {len(timed):,}"
    return [f"{share} outcomes in time are of other machines: {names}; they say what is likely here, not what is"]


def _write(args: argparse.Namespace, model: Model, top: tuple[Suggestion, ...]) -> list[str]:
    """Write the suggestions as a recipe file where one is asked for."""
    import shlex

    from efflab.cards.baseline import load_baseline
    from efflab.cards.card_paths import card_files, find_card
    from efflab.foundation.files import write_atomically
    from efflab.suggest.writing import recipe_yaml

    if not args.yaml:
        return []
    if not top:
        return [f"{args.yaml} is not written: there is no suggestion"]
    named = model.name in card_files()
    seeds = load_baseline(find_card(model.name)).seeds()[:3] if named else []
    asked = model.name if named else args.baseline
    place = ["--goal", args.goal, "--backend", args.backend, "--batch", str(args.batch)]
    words = ["efflab", "suggest", args.baseline, *place]
    words += [] if args.within is None else ["--within", f"{args.within:g}"]
    text = recipe_yaml(asked, args.backend, args.batch, top, shlex.join(words), seeds or [0])
    write_atomically(args.yaml, text)
    return [f"{args.yaml} is written: efflab run {args.yaml}"]


def say(lines: list[str], style: str) -> None:
    """Print lines under the table, or beside csv and json on stderr."""
    import sys

    from efflab.foundation.visible import visible

    beside = style in ("csv", "json")
    if not beside:
        print()
    for line in map(visible, lines):
        print(line, file=sys.stderr if beside else sys.stdout)
