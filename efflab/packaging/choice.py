"""Finds what is to be packaged: a variant's record in a study, and the artefact that the store holds for it."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from efflab.artefacts.artefact import Artefact
from efflab.cards.named_models import note_models_of_cards
from efflab.foundation.errors import RequestError, nearest
from efflab.plan.stage_specs import ApplyTechnique, LoadBaseline, read_spec
from efflab.records.record import Record
from efflab.records.store import LocalStore
from efflab.records.study import Study
from efflab.records.variant_name import variant_name


@dataclass(frozen=True)
class Wanted:
    """What the user asked for. `named`: the study as it was named, by which its recipe and its store are found."""

    named: str
    variant: str
    seed: int | None = None  # None: the first that was measured
    backend: str | None = None  # None: the variant as it is
    onnx: bool = False  # the exported graph of a torch variant


@dataclass(frozen=True)
class Chosen:
    """The record of the wanted variant and its artefact."""

    study: Study
    record: Record
    artefact: Artefact
    spec: LoadBaseline | ApplyTechnique  # of the stage that made it


def choose(study: Study, wanted: Wanted, store: LocalStore) -> Chosen:
    """Return the record and the artefact; raise RequestError, naming what there is, if the study or the store lacks them."""
    records = _of_seed(_measured(_of_backend(_of_variant(study, wanted), wanted), wanted), wanted)
    found = [_stored(study, record, wanted, store) for record in _one_an_artefact(records)]
    form = "onnx" if wanted.onnx else "module"
    fitting = [one for one in found if one.artefact.form == form]
    if wanted.onnx and not fitting:
        raise RequestError(_no_graph(study, wanted))
    return (fitting or found)[0]


def _of_variant(study: Study, wanted: Wanted) -> list[Record]:
    found = [record for record in study["records"] if record["variant"] == wanted.variant]
    if not found:
        known = {record["variant"] for record in study["records"] if record["role"] != "repeat"}
        raise RequestError(
            f"the study {study['name']!r} has no variant {wanted.variant!r}; {nearest(wanted.variant, known)}"
        )
    return found


def _of_backend(records: list[Record], wanted: Wanted) -> list[Record]:
    labels = {record["backend"] for record in records}
    if wanted.backend is not None and wanted.backend not in labels:
        raise RequestError(
            f"{wanted.variant} was not measured on {wanted.backend!r}; {nearest(wanted.backend, labels)}"
        )
    return [record for record in records if wanted.backend in (None, record["backend"])]


def _measured(records: list[Record], wanted: Wanted) -> list[Record]:
    """Return the records whose artefact was made and ran; raise RequestError with the reasons if there is none."""
    fine = [record for record in records if record["status"] == "ok" and _stage(record).isalnum()]
    if not fine:
        lost = [record for record in records if record["status"] != "ok"]
        reasons = dict.fromkeys(f"{one['status']} on {one['backend']}: {one['reason']}" for one in lost)
        raise RequestError(
            f"{wanted.variant} has nothing to export: {'; '.join(reasons) or 'the study names no stored model of it'}"
        )
    return fine


def _stage(record: Record) -> str:
    return record.get("stages", {}).get("artefact", "")


def _of_seed(records: list[Record], wanted: Wanted) -> list[Record]:
    seeds = sorted({record["seed"] for record in records})
    if wanted.seed is not None and wanted.seed not in seeds:
        known = ", ".join(map(str, seeds))
        raise RequestError(f"{wanted.variant} was not measured with seed {wanted.seed}; the study has {known}")
    chosen = seeds[0] if wanted.seed is None else wanted.seed
    return [record for record in records if record["seed"] == chosen]


def _one_an_artefact(records: list[Record]) -> list[Record]:
    return list({_stage(record): record for record in reversed(records)}.values())[::-1]


def _no_graph(study: Study, wanted: Wanted) -> str:
    """Say why there is no ONNX graph of a variant."""
    reasons = {
        f"{record['backend']}: {record['reason']}"
        for record in study["records"]
        if record["variant"] == wanted.variant and record["status"] != "ok"
    }
    why = "; ".join(sorted(reasons)) or "add a backend such as onnxruntime to the recipe, and run it"
    where = f" on {wanted.backend}" if wanted.backend else ""
    return f"no ONNX graph of {wanted.variant} was measured{where} ({why})"


def _stored(study: Study, record: Record, wanted: Wanted, store: LocalStore) -> Chosen:
    """Return the artefact of a record; raise RequestError if the store lacks it, or its files have changed."""
    stage = _stage(record)
    if not store.holds(stage):
        what = f"the store {store.root} does not hold the model of {record['variant']} (seed {record['seed']})"
        raise RequestError(f"{what}; {_way_back(study, record, wanted)}")
    finished, folder = store.finished(stage), store.fetch(stage)
    if finished is None:
        what = f"the stored model of {record['variant']} in {folder} is damaged (not as it was written)"
        raise RequestError(f"{what}; {_way_back(study, record, wanted)}")
    try:
        spec = read_spec(finished.about["spec"])
        spec.task.load()
    except (ValueError, KeyError, TypeError, AttributeError):
        spec = None
    if not isinstance(spec, LoadBaseline | ApplyTechnique):
        what = f"the stored model of {record['variant']} in {folder} was made by another efflab"
        raise RequestError(f"{what}; {_way_back(study, record, wanted)}")
    artefact = Artefact.open(folder)
    if "python" in artefact.structure.get("builder", {}):
        note_models(study["name"], wanted.named)
    return Chosen(study, record, artefact, spec)


def _way_back(study: Study, record: Record, wanted: Wanted) -> str:
    """Name the commands that make an artefact again and export it then."""
    path = recipe_at_hand(study["name"], wanted.named)
    recipe = shlex.quote(str(path)) if path else ""
    only = ""
    if record["role"] in ("variant", "control"):
        only = f" --only {shlex.quote(variant_name(record['variant']).on_any_baseline)}"
    made = f"`efflab run {recipe or 'RECIPE'}{only}` makes it"
    which = "" if recipe else f" (RECIPE: the file of the recipe {study['name']!r})"
    return f"{made}{which}, and then `efflab export {study['name']} {shlex.quote(record['variant'])}` packages it"


def recipe_at_hand(study: str, named: str) -> Path | None:
    """Return the file of a study's recipe: the one that the user named, or one in this folder or in its `recipes`."""
    from efflab.foundation.config import read_yaml

    given = [Path(named)] if Path(named).suffix in (".yaml", ".yml") else []
    for path in (*given, *sorted(Path("recipes").glob("*.yaml")), *sorted(Path().glob("*.yaml"))):
        try:
            if read_yaml(path).data.get("name") == study:
                return path
        except (RequestError, AttributeError):
            continue
    return None


def note_models(study: str, named: str) -> None:
    """Note the Python code that the user's cards name: those of the recipe at hand, and those that are found from here."""
    from efflab.recipe.recipe import load_recipe

    recipe = recipe_at_hand(study, named)
    if recipe is not None:
        with contextlib.suppress(RequestError):
            load_recipe(recipe)
    note_models_of_cards(recipe)


def store_of(named: str) -> LocalStore:
    """Return the store that a study file lies in, else the one of this folder."""
    path = Path(named) / "study.json" if Path(named).is_dir() else Path(named)
    root = path.resolve().parent.parent.parent
    inside = path.is_file() and path.resolve().parent.parent.name == "studies" and (root / "store.json").is_file()
    return LocalStore.open(root if inside else None)
