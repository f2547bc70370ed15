import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from studies import example_study, record

from efflab.cli.main import main
from efflab.foundation.errors import RequestError
from efflab.records.samples import pack_scores, read_samples, unpack_scores
from efflab.records.study import SCHEMA, load_study, save_study

ROOT = Path(__file__).parents[2]


def whole():
    return {
        "schema": SCHEMA, "name": "s", "recipe": "", "efflab": "0", "commit": "", "data": {}, "machines": {"m1": {}},
        "records": [record("net-w24", 1e6, 0.1, role="baseline", latency_ms=1.0)],
    }  # fmt: skip


def changed(**keys):
    return {**whole(), **keys}


def changed_record(**keys):
    return changed(records=[{**whole()["records"][0], **keys}])


def changed_work(**keys):
    return changed_record(work={**whole()["records"][0]["work"], **keys})


def changed_latency(**keys):
    before = {key: value for key, value in whole()["records"][0]["latency"].items() if key != "starts"}
    return changed_record(latency={**before, **keys})


def test_work_by_input_and_times_over_inputs_are_read_back(tmp_path):
    study = changed_work(by_input=[{"macs": 1, "share": 0.5, "quality": 1.0}, {"macs": 2, "share": 0.5, "quality": 0}])
    study["records"][0]["latency"]["inputs"] = 11  # as many as a round has calls
    save_study(study, tmp_path / "study.json")
    assert load_study(tmp_path / "study.json") == json.loads(json.dumps(study))


def test_what_is_saved_is_read_back(tmp_path):
    save_study(whole(), tmp_path / "study.json")
    assert load_study(tmp_path / "study.json") == json.loads(json.dumps(whole()))


def test_the_committed_study_is_whole():
    assert load_study(ROOT / "reports" / "digits" / "study.json")["records"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not a study file"),
        ([], "not a study file"),
        ({}, "not a study file"),
        (changed(schema="a"), "no `schema` number"),
        (changed(schema=-1), "no `schema` number"),
        (changed(schema=SCHEMA + 1), "newer efflab"),
        (changed(records=[]), "no records"),
        (changed(records="x"), "records is missing or of the wrong kind"),
        (changed(records=[{}]), "records[0]: variant is missing"),
        (changed(records=[5]), "records[0]: it must be a mapping"),
        (changed(machines=None), "machines is missing"),
        (changed(machines={}), "machine 'm1' is not among the study's machines"),
        (changed_work(by_input=5), "work.by_input must be a list"),
        (changed_work(by_input=[{"macs": 1, "share": 1.0}]), "work.by_input must be a list"),
        (changed_work(by_input=[{"macs": 1, "share": 0.5, "quality": 1.0}]), "whose shares make 1"),
        (changed_latency(inputs=4), "must hold whole turns over latency.inputs"),
        (changed_latency(inputs=0), "latency.inputs must be a count"),
        (changed_record(latency="x"), "records[0]: latency must be a mapping"),
        (changed_record(latency={}), "records[0]: latency."),
        (changed_record(quality={"value": 1.0, "metric": "accuracy"}), "quality.scores is missing"),
        (
            changed_record(quality={"value": 0.5, "metric": "accuracy", "scores": {"bits": "8A==", "n": 9}}),
            "1 bytes for n = 9",
        ),
        (
            changed_record(quality={"value": 0.6, "metric": "accuracy", "scores": {"bits": "8A==", "n": 8}}),
            "quality.scores have a mean of 0.5000, quality.value is 0.6000",
        ),
        (
            changed_record(quality={"value": 0.5, "metric": "accuracy", "scores": {"bits": "8A", "n": 8}}),
            "cannot be read",
        ),
        (changed_record(quality={"value": 0.5, "metric": "accuracy", "scores": 5}), "cannot be read"),
        (changed_record(seed="0"), "seed is missing or of the wrong kind"),
    ],
)
def test_a_damaged_study_is_one_clear_line(content, said, tmp_path, capsys):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(content))
    assert main(["compare", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"efflab: {path}: ")
    assert said in line


def test_half_a_study_is_no_study(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(whole())[:50])
    with pytest.raises(RequestError, match="not a study file"):
        load_study(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="not a study file"):
        load_study(path)


@pytest.mark.parametrize("scores", [np.array([0, 1, 1]), np.array([[0.5, 2.0], [1.0, 3.0]], np.float32)])
def test_scores_are_unpacked_as_they_were(scores):
    assert (unpack_scores(json.loads(json.dumps(pack_scores(scores)))) == scores).all()


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        ("work", "macs", "x", "work.macs must be a number"),
        ("quality", "value", float("nan"), "quality.value must be a number"),
        ("latency", "rounds_ms", [], "must be a list of lists of times"),
        ("latency", "rounds_ms", [[1.0, -1.0]], "must hold times, none below 0"),
    ],
)
def test_numbers_that_are_none_are_named(tmp_path, part, name, value, words):
    study = example_study()
    next(record for record in study["records"] if part in record)[part][name] = value
    save_study(study, tmp_path / "s.json")
    with pytest.raises(RequestError, match=words):
        load_study(tmp_path / "s.json")


def times(count, seed=0):
    return [[round(float(value), 6) for value in np.random.default_rng(seed).uniform(0.1, 5, 11)] for _ in range(count)]


def test_a_line_holds_a_record_and_samples_lie_beside_each_once(tmp_path):
    study = example_study()
    save_study(study, tmp_path / "study.json")
    lines = (tmp_path / "study.json").read_text().splitlines()
    assert len(lines) == len(study["records"]) + 2
    assert [json.loads(line.rstrip(","))["variant"] for line in lines[1:-1]] == [
        one["variant"] for one in study["records"]
    ]
    arrays = list(read_samples((tmp_path / "samples.npz").read_bytes()).values())
    assert len({(array.dtype.str, array.tobytes()) for array in arrays}) == len(arrays)
    wanted = {json.dumps(one["latency"]["rounds_ms"]) for one in study["records"] if "latency" in one}
    assert sum(array.dtype.itemsize > 1 for array in arrays) == len(wanted)


def test_the_same_study_gives_the_same_bytes_and_a_change_shows_in_one_line(tmp_path):
    first, second = tmp_path / "a" / "study.json", tmp_path / "b" / "study.json"
    study = example_study()
    save_study(study, first)
    save_study(load_study(first), second)
    assert first.read_bytes() == second.read_bytes()
    assert first.with_name("samples.npz").read_bytes() == second.with_name("samples.npz").read_bytes()
    study["records"][2]["latency"]["rounds_ms"] = times(3)
    save_study(study, second)
    before, after = (path.read_text().splitlines() for path in (first, second))
    assert [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [0, 3]


@pytest.mark.parametrize(
    "rounds", [times(2), [[0.1234567891, 2.5]], [[1e7, 4294.967296], [0.0]], [[1.0], [2.0, 3.0, 4.0]]]
)
def test_times_come_back_to_the_last_bit(tmp_path, rounds):
    study = changed_latency(rounds_ms=rounds)
    save_study(study, tmp_path / "study.json")
    assert load_study(tmp_path / "study.json")["records"][0]["latency"]["rounds_ms"] == rounds
    arrays = read_samples((tmp_path / "samples.npz").read_bytes())
    (dtype,) = {array.dtype for name, array in arrays.items() if name.startswith("t")}
    assert dtype == np.dtype({0.1234567891: "<f8", 1e7: "<u8"}.get(rounds[0][0], "<u4"))


def test_a_study_of_schema_1_is_read_and_written_anew(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(changed(schema=1)))
    study = load_study(path)
    assert study == whole()
    save_study(study, path)
    assert json.loads(path.read_text())["schema"] == SCHEMA
    assert load_study(path) == whole()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "samples.npz, which holds its samples, is missing beside it"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "samples.npz is not the one that it was written with"),
    ],
)
def test_samples_that_are_not_its_own_are_refused(tmp_path, spoil, said):
    save_study(whole(), tmp_path / "study.json")
    spoil(tmp_path / "samples.npz")
    with pytest.raises(RequestError, match=said):
        load_study(tmp_path / "study.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"array": "t0", "lengths": [11]}, r"records\[0\]: its samples cannot be read"),
        ({"array": None, "lengths": "x"}, r"records\[0\]: its samples cannot be read"),
        ({}, r"records\[0\]: its samples cannot be read"),
    ],
)
def test_a_record_that_names_no_samples_is_damaged(tmp_path, change, said):
    path = tmp_path / "study.json"
    save_study(whole(), path)
    study = json.loads(path.read_text())
    study["records"][0]["latency"]["rounds"] = change
    path.write_text(json.dumps(study))
    with pytest.raises(RequestError, match=said):
        load_study(path)


def test_an_altered_study_is_refused_and_one_that_is_laid_out_anew_is_read(tmp_path):
    path = tmp_path / "study.json"
    save_study(example_study(), path)
    known = load_study(path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1, sort_keys=True))
    assert load_study(path) == known
    text = path.read_text()
    assert '"macs": 400000' in text
    for before, after in [('"macs": 400000', '"macs": 400001'), ('"margin": 0.01', '"margin": 0.02')]:
        path.write_text(text.replace(before, after))
        with pytest.raises(RequestError, match="the file was altered after it was written"):
            load_study(path)
    path.write_text(text.replace(json.loads(text)["sha256"], ""))
    with pytest.raises(RequestError, match="the file was altered after it was written"):
        load_study(path)
    earlier = {key: value for key, value in json.loads(text).items() if key != "sha256"}  # before there were digests
    path.write_text(json.dumps(earlier))
    assert load_study(path) == known


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (changed_record(role="<script>"), "records[0]: role unknown value '<script>'; known: baseline, control"),
        (changed_record(batch_size=0), "records[0]: batch_size must be at least 1 (found 0)"),
        (changed_record(margin="x"), "records[0]: margin must be a number (found 'x')"),
        (changed_record(margin=float("nan")), "records[0]: margin must be a finite number"),
        (changed_record(seed=0.5), "records[0]: seed is missing or of the wrong kind"),
        (changed_record(steps=["cast"]), "records[0]: steps[0] must be a mapping"),
        (changed_record(status="fine"), "records[0]: status unknown value 'fine'"),
        (changed_record(training={"training_macs": -1.0, "seconds": 1.0, "hardware_burden_flop": 0.0}),
         "records[0]: training.training_macs must be at least 0"),
        (changed_latency(rounds_ms=[[1.0], 5]), "latency.rounds_ms must be a list of lists of times (found 5 at rounds_ms[1])"),
        (changed_latency(rounds_ms=[[1.0], []]), "latency.rounds_ms must be a list of lists of times (found [] at rounds_ms[1])"),
        (changed_latency(rounds_ms=[[1.0, None]]), "latency.rounds_ms must hold times, none below 0"),
        (changed_latency(rounds_ms=[[0.0, 0.0]]), "latency.rounds_ms must hold times above 0"),
        (changed_latency(prepare_s=float("inf")), "latency.prepare_s must be a number (found inf)"),
        (changed_latency(quiet="yes"), "latency.quiet must be true or false"),
        (changed_work(coverage=2.0), "work.coverage must be at most 1 (found 2.0)"),
        (changed_record(task_settings={"a": float("nan")}), "records[0].task_settings.a is no finite number"),
        (changed(machines={"m1": {"cores": 10**50}}), "machines.m1.cores is too large a number"),
        (changed(machines={"m1": {"cores": -1}}), "machines.m1.cores must be at least 0"),
        (changed(machines={"m1": {"cpu": {}}}), "machines.m1.cpu must be text"),
        (changed(machines={"m1": {"flags": 5}}), "machines.m1.flags must be a list"),
        (changed(machines={"m1": {"versions": {"torch": 2.9}}}), "machines.m1.versions.torch must be text"),
        (changed(search={"minimize": []}), "search.where is missing"),
    ],
)  # fmt: skip
def test_a_record_that_breaks_its_schema_is_refused_with_its_place(study, said, tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps({**study, "schema": 1}))
    with pytest.raises(RequestError) as caught:
        load_study(path)
    assert said in str(caught.value)


def test_samples_cannot_unpack_to_more_than_they_say(tmp_path):
    save_study(whole(), tmp_path / "study.json")
    content = (tmp_path / "samples.npz").read_bytes()
    with pytest.raises(ValueError, match="zip"):
        read_samples(content[:-30])
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}".ljust(117) + b"\n"
    arrays = io.BytesIO()
    with zipfile.ZipFile(arrays, "w") as archive:  # a header that asks for 8 TB
        archive.writestr("names.npy", b"\x93NUMPY\x01\x00v\x00" + header)
    with pytest.raises(ValueError, match="reshape|buffer"):
        read_samples(arrays.getvalue())
