"""Every reader of files from outside, over 2,000 spoilt files: a refusal in words, or what was written, and no traceback."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import pytest
import vl_convert
from studies import BASELINE, example_records, record, study_of

from efflab.cards.baseline import load_baseline
from efflab.cards.card_files import file_problems
from efflab.cards.weights import read_header
from efflab.cli.main import main
from efflab.comparison.columns import AXES
from efflab.comparison.compare import assess
from efflab.comparison.expressions import condition
from efflab.contracts.text_files import TextColumns, read_texts
from efflab.foundation.errors import RequestError
from efflab.foundation.outside import content_of
from efflab.frontier.points import read_points
from efflab.recipe.recipe import load_recipe
from efflab.records.store import Finished, LocalStore
from efflab.records.study import load_study, save_study
from efflab.reporting.charts.figures import frontier_chart
from efflab.reporting.report import SECTIONS
from efflab.reporting.section import Asked
from efflab.reporting.table import render
from efflab.search import journal
from efflab.validation.record import load_validation, written
from efflab.validation.reporting.summary import failed, lines

ROOT = Path(__file__).parents[1]
COST = {"training_macs": 1.0, "seconds": 2.0, "hardware_burden_flop": 3.0}
LINES, BYTES = mutations.spoilt_lines, mutations.spoilt_bytes
SCALAR, VALUE = mutations.spoilt_scalar, mutations.spoilt_value


def small_study() -> Any:
    chosen = [one for one in example_records() if (one["backend"], one["batch_size"]) == ("torch", 1)]
    for one in chosen:
        if "latency" in one:
            one["latency"] |= {
                "rounds_ms": [times[:3] for times in one["latency"]["rounds_ms"][:4]],
                "starts": [2, 2],
            }
    by_input = [{"macs": 1, "share": 0.5, "quality": 1.0}, {"macs": 2, "share": 0.5, "quality": 0.5}]
    chosen[-1].setdefault("work", chosen[0]["work"]).update(by_input=by_input)
    chosen[0]["promised"] = {"value": 0.9, "tolerance": 0.01}
    chosen.append(record("pruned", 1e6, 0.2, fidelity=[
        {"technique": "cast", "notes": [], "sqnr_db": 30.0, "agreement": 0.9, "examples": 64, "warnings": ["odd"]}]))  # fmt: skip
    study: Any = study_of(chosen)
    study["search"] = {
        "minimize": ["error", "macs"], "where": ["error <= 0.3"], "backend": "torch", "batch_size": 1, "points": 4.0,
        "cost": COST, "found": {"best": 0}, "front": [0], "trials": [trial(0)],
    }  # fmt: skip
    return study


def trial(number: int) -> Any:
    return {
        "number": number, "point": {"start": 0}, "recipe": "x", "state": "done", "why": "", "values": {"error": 0.1},
        "cost": COST, "stages": [f"s{number}"], "took_s": 1.0,
    }  # fmt: skip


def use_study(path: Path) -> Any:
    """Read a study, and work out and print all that a report says of it."""
    study = load_study(path)
    asked = Asked(study, assess(study, AXES, 20), 1e9)
    for style in ("simple", "csv"):
        render(asked.rows, style=style)
    for section in SECTIONS:
        section(asked)
    return study


def use_card(path: Path) -> None:
    card = load_baseline(path)
    if problems := file_problems([card], [0, 1]):
        raise RequestError(problems)


def use_validation(path: Path) -> Any:
    found = load_validation(path)
    lines(found, found)
    failed(found, found)
    return found


def use_stage(path: Path) -> Finished:
    """Read a stage as a run does, which makes one again that is not as it was written."""
    found = LocalStore(path.parents[2]).finished(path.parent.name)
    if found is None:
        raise RequestError("made again")
    return found


def make_study(folder: Path) -> Path:
    save_study(small_study(), folder / "study.json")
    return folder / "study.json"


def make_old_study(folder: Path) -> Path:
    path = folder / "study.json"
    path.write_text(json.dumps({**small_study(), "schema": 1}))
    return path


def make_samples(folder: Path) -> Path:
    return make_study(folder).with_name("samples.npz")


def make_journal(folder: Path) -> Path:
    for number in range(4):
        journal.append(folder / "j.jsonl", "id", [trial(number)])
    return folder / "j.jsonl"


def make_validation(folder: Path) -> Path:
    found = json.loads((ROOT / "reports" / "validation" / "openvino" / "validation.json").read_text())
    found["results"] = found["results"][::60]
    (folder / "validation.json").write_text(written(found))
    return folder / "validation.json"


def make_stage(folder: Path) -> Path:
    store = LocalStore(folder)
    store.prepare()
    work = store.work_folder("s1")
    (work / "weights").write_bytes(b"x")
    store.put(
        "s1", work, {"form": "module", "batch": None, "cost": COST}, {"kind": "step", "title": "cast", "seconds": 1.0}
    )
    return folder / "stages" / "s1" / "stage.json"


def make_card(folder: Path) -> Path:
    name = "digits-resnet-w4"
    for file in (ROOT / "baselines").glob(f"{name}-s*.safetensors"):
        os.link(file, folder / file.name) if file.stat().st_dev == folder.stat().st_dev else shutil.copy(file, folder)
    return Path(shutil.copy(ROOT / "baselines" / f"{name}.yaml", folder))


def make_recipe(folder: Path) -> Path:
    return Path(shutil.copy(ROOT / "recipes" / "digits-pruning.yaml", folder))


def make_search(folder: Path) -> Path:
    return Path(shutil.copy(ROOT / "recipes" / "search-digits.yaml", folder))


def make_weights(folder: Path) -> Path:
    content = content_of(ROOT / "baselines" / "digits-resnet-w4-s0.safetensors")
    path = folder / "w.safetensors"
    path.write_bytes(content[: 8 + int.from_bytes(content[:8], "little") + 64])
    return path


def make_texts(folder: Path) -> Path:
    rows = [{"text": f"a film, number {number}", "label": number % 2} for number in range(12)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "t.jsonl"


def make_points(folder: Path) -> Path:
    rows = [f"net{n},{10 ** (6 + n / 4)},{0.3 / (n + 1)},{2015 + n}" for n in range(8)]
    (folder / "p.csv").write_text("\n".join(["name,macs,error,year", *rows]) + "\n")
    return folder / "p.csv"


# reader, the file that is spoilt, what reads it, how often, how it is spoilt, and whether what is read must be what was written
Reader = tuple[str, Callable[[Path], Path], Callable[[Path], Any], int, list[mutations.Change], bool]
READERS: list[Reader] = [
    ("study", make_study, use_study, 280, [VALUE, VALUE, VALUE, BYTES, LINES], True),
    ("study of schema 1", make_old_study, use_study, 250, [VALUE, VALUE, VALUE, BYTES], False),
    ("samples", make_samples, lambda path: load_study(path.with_name("study.json")), 100, [BYTES], True),
    ("journal", make_journal, lambda path: journal.read(path, "id", lambda _: True)[0], 200,
     [mutations.spoilt_line_of_json, BYTES, LINES], True),
    ("validation", make_validation, use_validation, 200, [VALUE, VALUE, BYTES, LINES], True),
    ("stage", make_stage, use_stage, 200, [VALUE, BYTES], True),
    ("card", make_card, use_card, 320, [SCALAR, SCALAR, BYTES, LINES], False),
    ("recipe", make_recipe, load_recipe, 40, [SCALAR, SCALAR, BYTES, LINES], False),
    ("search", make_search, load_recipe, 40, [SCALAR, SCALAR, BYTES, LINES], False),
    ("weights", make_weights, read_header, 140, [BYTES], False),
    ("texts", make_texts, lambda path: read_texts(path, TextColumns()), 130,
     [mutations.spoilt_line_of_json, BYTES, LINES], False),
    ("points", make_points, lambda path: read_points(path, "macs", "error"), 100,
     [mutations.spoilt_cell, BYTES, LINES], False),
]  # fmt: skip


def test_two_thousand_files_are_spoilt():
    assert sum(count for _, _, _, count, _, _ in READERS) == 2000


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0].replace(" ", "-"))
def test_a_spoilt_file_is_refused_in_words_or_read_as_it_was_written(reader, tmp_path):
    name, make, read, count, changes, known = reader
    path = make(tmp_path)
    sound, wanted = path.read_bytes(), read(path)
    refused = 0
    for number in range(count):
        chance = random.Random(f"{name} {number}")
        path.write_bytes(chance.choice(changes)(sound, chance))
        try:
            found = read(path)
        except RequestError as error:
            assert str(error).strip(), number
            assert all(one.what for one in error.problems), number
            refused += 1
            continue
        except Exception as error:
            pytest.fail(f"{name} {number}: {type(error).__name__}: {error}; {kept(path)}")
        if known:  # of a journal that is broken somewhere, what stood before that is read
            same = found == (wanted[: len(found)] if name == "journal" else wanted)
            assert same, f"{name} {number} believes an altered file: {kept(path)}"
    assert refused or name in ("journal", "weights")


def kept(path: Path) -> Path:
    """Keep a spoilt file for a person to look at; the next one takes its place."""
    return Path(shutil.copy(path, path.with_name(f"spoilt-{path.name}")))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0].replace(" ", "-"))
def test_what_is_no_regular_file_is_refused_at_once(reader, kind, tmp_path):
    _, make, read, *_ = reader
    path = make(tmp_path)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises((RequestError, OSError)):
        read(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("speedup > " + "9" * 400, "no column comes near that"),
        ("macs > 1e999", "no column comes near that"),
        ("quality > 1" + "0" * 300, "no column comes near that"),
        ("9**9**9", "is not allowed"),
        ("macs > 9**9**9", "is not allowed"),
        ("macs > " + "9" * 5000, "longer than"),
    ],
)
def test_huge_numbers_in_expressions_are_refused(text, told):
    with pytest.raises(RequestError, match=told):
        condition(text)


def test_a_study_of_a_baseline_alone_is_compared_and_drawn(tmp_path, capsys):
    study = study_of([record(BASELINE, 1e6, 0.2, role="baseline", latency_ms=1.0)])
    save_study(study, tmp_path / "study.json")
    assert main(["compare", str(tmp_path)]) == 0
    assert BASELINE in capsys.readouterr().out
    picture = frontier_chart(assess(study, AXES, 20).rows).to_dict()
    size = re.search(r'width="([0-9.e+]+)"', vl_convert.vegalite_to_svg(json.dumps(picture)))
    assert size is not None
    assert 400 < float(size[1]) < 4000  # a legend without entries would have no end
