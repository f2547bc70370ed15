import json

import pytest

from efflab.foundation.errors import RequestError
from efflab.search.journal import append, mend, read

COST = {"training_macs": 1.0, "seconds": 2.0, "hardware_burden_flop": 3.0}


def trial(number):
    return {
        "number": number, "point": {"start": 0}, "recipe": "x", "state": "done", "why": "", "values": {"error": 0.1},
        "cost": COST, "stages": [f"s{number}"], "took_s": 1.0,
    }  # fmt: skip


def fits(trial):
    return trial["point"] == {"start": 0}


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "searches" / "j.jsonl"
    append(path, "id", [trial(0), trial(1)])
    append(path, "id", [trial(2)])
    return path


def test_what_was_written_is_read(journal, tmp_path):
    assert read(journal, "id", fits) == ([trial(0), trial(1), trial(2)], "")
    assert read(tmp_path / "none.jsonl", "id", fits) == ([], "")


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_batch_that_was_cut_off_is_left_out_whole(journal, cut):
    journal.write_bytes(journal.read_bytes()[:-cut])
    trials, note = read(journal, "id", fits)
    # without its last newline a line is whole, and is kept
    assert trials == ([trial(0), trial(1), trial(2)] if cut == 1 else [trial(0), trial(1)])
    assert ("is cut off or damaged" in note) == (cut > 1)
    assert read(journal, "id", fits)[0] == trials  # reading changes nothing
    mend(journal, "id", trials)
    append(journal, "id", [trial(len(trials))])
    assert read(journal, "id", fits) == ([*trials, trial(len(trials))], "")


def test_damage_in_the_middle_ends_the_reading_there(journal):
    lines = journal.read_text().splitlines()
    lines[1] = lines[1].replace('"number": 1', '"number": 7')
    journal.write_text("\n".join(lines) + "\n")
    trials, note = read(journal, "id", fits)
    assert trials == []
    assert f"{journal}:2 is cut off or damaged" in note


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("point", {}), ("point", []), ("values", {"error": float("nan")}), ("values", {"error": "x"}), ("values", None),
        ("cost", {}), ("cost", {**COST, "seconds": "1"}), ("state", "won"), ("stages", 3), ("took_s", None), ("number", 7),
        ("number", "0"), ("paused", {"s": {}}),
    ],
)  # fmt: skip
def test_a_trial_that_cannot_be_one_of_this_search_ends_the_reading(journal, part, other):
    mend(journal, "id", [trial(0)])
    append(journal, "id", [{**trial(1), part: other}])
    append(journal, "id", [trial(2)])
    trials, note = read(journal, "id", fits)
    assert trials == [trial(0)]
    assert f"{journal}:3 is cut off or damaged" in note


@pytest.mark.parametrize("head", ['{"schema": "2", "search": "id"}', '{"schema": null}', "[" * 100_000])
def test_a_damaged_head_is_no_newer_version(journal, head):
    journal.write_text(head + "\n")
    assert read(journal, "id", fits)[0] == []


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n", b"[]\n", b"{}{}\n"])
def test_a_file_of_rubbish_is_begun_again(journal, content):
    journal.write_bytes(content)
    trials, _ = read(journal, "id", fits)
    assert trials == []
    mend(journal, "id", trials)
    append(journal, "id", [trial(0)])
    assert read(journal, "id", fits) == ([trial(0)], "")


def test_newer_and_other_journals_are_refused(journal):
    with pytest.raises(RequestError, match="belongs to another search"):
        read(journal, "other", fits)
    journal.write_text(json.dumps({"schema": 99, "search": "id"}) + "\n")
    with pytest.raises(RequestError, match="written by a newer efflab"):
        read(journal, "id", fits)
