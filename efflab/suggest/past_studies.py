"""Reads the studies at hand into outcomes, and keeps what was worked out of each file in the store, by the file's digest.

A file that cannot be read (damaged, or of a newer schema) and steps that this version does not know are left out, each with a
note: the others tell what they tell.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from efflab.foundation.errors import RequestError
from efflab.foundation.files import file_digest
from efflab.foundation.wording import one_line
from efflab.records.kept import keep, recalled
from efflab.records.store import LocalStore
from efflab.records.study import load_study
from efflab.suggest.outcome import Model, Outcome, Recipe, current, distil, odd_work, packed, unknown, unpacked

SCHEMA = 3  # raise it when outcomes are worked out in another way
FOLDER = "experience"


@dataclass(frozen=True)
class Experience:
    """All that earlier studies tell."""

    outcomes: tuple[Outcome, ...]
    models: dict[str, Model]  # by card
    records: int
    studies: int
    machines: dict[str, str] = field(default_factory=dict)  # id -> processor
    notes: tuple[str, ...] = ()

    def without(self, hidden: Callable[[Outcome], bool]) -> Experience:
        """Return the experience of those who have not seen some outcomes."""
        return replace(self, outcomes=tuple(one for one in self.outcomes if not hidden(one)))


def study_files(places: Iterable[Path] | None = None, store: LocalStore | None = None) -> list[Path]:
    """Return the study files of places (files, or folders that hold them); by default of `reports` and the store.

    Raises RequestError for a place that is given and is not there, or holds none.
    """
    if places is None:
        studies = (store or LocalStore.open()).root / "studies"
        return [*sorted(Path("reports").glob("*/study.json")), *sorted(studies.glob("*/study.json"))]
    found: list[Path] = []
    for place in places:
        inside = [place] if place.is_file() else sorted([*place.glob("study.json"), *place.glob("*/study.json")])
        if not inside:
            what = "holds no study (NAME/study.json)" if place.is_dir() else "is no study and no folder of studies"
            raise RequestError(f"--records {place} {what}; `efflab run` makes studies, and reports/ holds samples")
        found += inside
    return found


class Told(NamedTuple):
    """What one study file tells."""

    records: int
    machines: dict[str, str]
    models: list[Model]
    outcomes: list[Outcome]


def read(paths: Iterable[Path], store: LocalStore | None = None) -> Experience:
    """Return what study files tell, from the store's cache where the same file was read before."""
    files: dict[str, Told] = {}
    notes = []
    for path in paths:
        try:
            digest = file_digest(path)
            if digest not in files:  # a report's copy of a study is the study
                files[digest] = _told(path, store.root / FOLDER / f"{digest}.json" if store else None)
        except OSError as error:
            notes.append(f"{path} is left out: {(error.strerror or str(error)).lower()}")
        except RequestError as error:
            notes.append(f"{path} is left out: {error.problems[0].what}")
    models: dict[str, Model] = {}
    for model in (model for told in files.values() for model in told.models):
        models.setdefault(model.name, model)  # one card is one model, though studies score it with different seeds
    outcomes: list[Outcome] = []
    lost: Counter[str] = Counter()
    for one in (outcome for told in files.values() for outcome in told.outcomes):
        steps = [current(step) for step in one.recipe]
        why = [unknown(given) for given, step in zip(one.recipe, steps, strict=True) if step is None]
        if why:
            lost[" and ".join(dict.fromkeys(why))] += 1
        else:
            recipe = tuple(step for step in steps if step)
            outcomes.append(replace(one, recipe=recipe, model=models[one.model.name]))
    notes += [
        f"{count} outcome{'s' * (count != 1)} left out, with steps that this version does not take: {why}"
        for why, count in lost.items()
    ]
    return Experience(
        outcomes=tuple(outcomes),
        models=models,
        records=sum(told.records for told in files.values()),
        studies=len(files),
        machines={one: name for told in files.values() for one, name in told.machines.items()},
        notes=tuple(notes),
    )


def _told(path: Path, kept: Path | None) -> Told:
    """Return what a file tells, from `kept` if that is what this version wrote; raise RequestError for a bad file."""
    content = recalled(kept)
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        return Told(content["records"], content["machines"], *unpacked(content))
    try:
        study = load_study(path)
        wrong = odd_work(study)
        models, outcomes = ([], []) if wrong else distil(study)
        machines = {one: str(machine.get("cpu") or one) for one, machine in study["machines"].items()}
        content = {"schema": SCHEMA, "records": len(study["records"]), "machines": machines, **packed(models, outcomes)}
        json.dumps(content, allow_nan=False)
    except RequestError:
        raise
    except Exception as error:  # a file of others can be wrong in ways that nobody has thought of; the rest still tells
        raise RequestError(f"its rows cannot be worked out ({one_line(error)})") from error
    if wrong:
        raise RequestError(wrong)
    keep(kept, content)
    return Told(len(study["records"]), machines, models, outcomes)


def recipes(outcomes: Iterable[Outcome]) -> list[Recipe]:
    """Return the recipes of outcomes, each once, in the order of the records."""
    return list(dict.fromkeys(one.recipe for one in outcomes))
