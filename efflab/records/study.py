"""A study: all records of one recipe run, as plain data that compare, report and frontier read.

A study is two files. study.json: {"schema", "name", "recipe", "efflab", "commit", "data", "machines": {id: fingerprint},
"samples": {file, sha256}, "sha256": of all the rest, "records": [...]}, one record a line. samples.npz beside it: raw times and
scores, each array once. A file whose rest has another sha256 was altered and is refused; earlier ones have none.
A record is one row of measurement, (variant, seed, backend, batch), as `Record` documents.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NotRequired, cast

from typing_extensions import TypedDict

from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import write_atomically
from efflab.foundation.outside import altered, content_of, loaded, odd_value, text_of, why, with_digest
from efflab.foundation.wording import one_line
from efflab.records.checks import IMPOSSIBLE, damage
from efflab.records.cost import CostRecord, Number
from efflab.records.record import Count, Record, Whole
from efflab.records.samples import put_samples, read_samples, samples_file, take_samples
from efflab.records.trial import Trial

SCHEMA = 2  # 1: samples stood in the records


class SearchRecord(TypedDict):
    """What a recipe's search tried before its variants were measured; values are of the validation split."""

    minimize: list[str]
    where: list[str]
    backend: str
    batch_size: Count
    points: Number | None  # of the space; None where it has no end
    cost: CostRecord  # of all trials, each stage once, and of the trainings of the cards that they started from
    found: dict[str, int]  # variant -> its trial
    front: list[int]  # every trial that none beats
    trials: list[Trial]


class Machine(TypedDict, total=False):
    """What a fingerprint says of a machine, as far as readers rely on it; there may be more."""

    cpu: str | None
    flags: list[str]
    cores: Whole | None
    threads: Whole | None
    threads_allowed: Whole | None
    memory_gib: Number | None
    versions: dict[str, str | None]
    gpus: list[str]


class Head(TypedDict):
    """What a study says of itself, beside its records."""

    schema: int
    name: str
    recipe: str  # the recipe's text
    efflab: str
    commit: str
    data: dict[str, str]  # task -> digest
    machines: dict[str, Machine]
    search: NotRequired[SearchRecord]


class Study(Head):
    """All records of one recipe run with their provenance."""

    records: list[Record]


def save_study(study: Study, path: Path) -> None:
    """Write a study, and its samples in a file beside it; each is written beside its place first.

    A line holds one record, so that a difference between two studies shows which record changed.
    """
    arrays: dict[str, Any] = {}
    records = [put_samples(cast("dict[str, Any]", record), arrays) for record in study["records"]]
    head: dict[str, Any] = {key: value for key, value in study.items() if key != "records"}
    beside = samples_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrays:
        content = samples_file(arrays)
        head["samples"] = {"file": beside.name, "sha256": hashlib.sha256(content).hexdigest()}
        write_atomically(beside, content)
    head = with_digest({**head, "records": records})
    del head["records"]
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    write_atomically(path, json.dumps(head, separators=(",", ":"))[:-1] + f',"records":[\n{lines}\n]}}\n')


def samples_path(path: Path) -> Path:
    """Return where the samples of a study lie."""
    return path.with_name("samples.npz" if path.name == "study.json" else f"{path.stem}.samples.npz")


def load_study(path: Path) -> Study:
    """Read a study; raise RequestError if it is missing, damaged, of a newer schema, or lacks what readers rely on.

    Studies of schema 1, whose samples stand in the records, are read, too.
    """
    try:
        study, suspect = loaded(text_of(path))
    except FileNotFoundError as error:
        raise RequestError(Problem(str(path), "no study here; `efflab run` writes one")) from error
    except (OSError, ValueError) as error:
        raise RequestError(Problem(str(path), f"not a study file ({why(error)})")) from error
    schema = study.get("schema") if isinstance(study, dict) else None
    if type(schema) is not int or schema < 1:
        raise RequestError(Problem(str(path), "not a study file (it has no `schema` number)"))
    if schema > SCHEMA:
        raise RequestError(Problem(str(path), f"written by a newer efflab (schema {schema}, this one knows {SCHEMA})"))
    changed = altered(study)
    study["schema"] = SCHEMA
    what = _fill_samples(study, path) or damage(study) or (odd_value(study) if suspect else "")
    if what:
        told = what if what.endswith(IMPOSSIBLE) else f"a damaged study: {what}; run the recipe again"
        raise RequestError(Problem(str(path), told))
    if changed:
        what = "the file was altered after it was written, and its numbers cannot be relied on; run the recipe again"
        raise RequestError(Problem(str(path), what))
    return cast(Study, study)


def _fill_samples(study: dict[str, Any], path: Path) -> str:
    """Put the samples back into the records; return what is wrong with their file, or ""."""
    named = study.pop("samples", None)
    if named is None:
        return ""
    try:
        file = path.with_name(Path(named["file"]).name)
        content = content_of(file)
        if hashlib.sha256(content).hexdigest() != named["sha256"]:
            return f"{file.name} is not the one that it was written with"
        arrays = read_samples(content)
    except FileNotFoundError:
        return f"{file.name}, which holds its samples, is missing beside it"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its samples cannot be read ({one_line(error)})"
    for index, record in enumerate(study["records"] if isinstance(study.get("records"), list) else ()):
        try:
            take_samples(record, arrays)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"records[{index}]: its samples cannot be read ({one_line(error)})"
    return ""
