import json
import subprocess

import pytest

from efflab.foundation import machine as machine_file
from efflab.foundation.machine import commit, fingerprint, load_state, machine_id, quiet

CPUINFO = """processor\t: 0
model name\t: Xeon 9
flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile sse
physical id\t: 0
core id\t\t: 0

processor\t: 1
model name\t: Xeon 9
flags\t\t: fpu avx2
physical id\t: 0
core id\t\t: 0
"""
STAT = "cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 0 0 1 0 0 0 0 0 0\n"


@pytest.fixture
def proc(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "meminfo").write_text("MemTotal:       16777216 kB\n")
    (tmp_path / "stat").write_text(STAT.format(user=100, idle=200, steal=4))
    monkeypatch.setattr(machine_file, "PROC", tmp_path)
    monkeypatch.setattr(machine_file, "GOVERNOR", tmp_path / "governor")
    machine_file._fingerprint.cache_clear()
    yield tmp_path
    machine_file._fingerprint.cache_clear()


def test_hyperthreads_of_one_core_are_one_core(proc):
    found = fingerprint()
    assert (found["cpu"], found["cores"], found["memory_gib"]) == ("Xeon 9", 1, 16)
    assert found["flags"] == ["amx_tile", "avx2", "avx512_vnni", "avx512f"]


def test_versions_are_those_of_the_installed_libraries():
    import numpy

    assert fingerprint()["versions"]["numpy"] == numpy.__version__


def test_a_machine_without_proc_still_has_a_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_file, "PROC", tmp_path / "nothing")
    machine_file._fingerprint.cache_clear()
    found = fingerprint()
    machine_file._fingerprint.cache_clear()
    assert found["memory_gib"] is None
    assert found["cores"] >= 1
    json.dumps(found)
    assert load_state(0)["busy_share"] is None


def test_the_id_follows_hardware_and_libraries_and_nothing_else():
    machine = fingerprint()
    same = {**machine, "kernel": "other", "governor": "powersave"}
    assert machine_id(machine) == machine_id(same)
    assert machine_id(machine) != machine_id({**machine, "cpu": "another"})
    assert machine_id(machine) != machine_id({**machine, "versions": {**machine["versions"], "torch": "0.1"}})


def test_busy_and_stolen_shares_come_from_the_interval_alone(proc, monkeypatch):
    def sleep(seconds):
        (proc / "stat").write_text(STAT.format(user=106, idle=212, steal=6))  # 6 busy, 2 stolen of 20 ticks

    monkeypatch.setattr(machine_file.time, "sleep", sleep)
    state = load_state()
    assert (state["busy_share"], state["steal_share"]) == (0.3, 0.1)
    assert state["ticks"] == [106, 6, 324]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"busy_share": 0.01, "steal_share": 0.0, "load_average": [9.0, 9, 9]}, True),
        ({"busy_share": 0.5, "steal_share": 0.0}, False),
        ({"busy_share": 0.01, "steal_share": 0.1}, False),
        ({"busy_share": None, "steal_share": None, "load_average": [0.1, 0, 0], "threads": 2}, True),
        ({"busy_share": None, "steal_share": None, "load_average": [2.0, 0, 0], "threads": 2}, False),
        ({"busy_share": None, "steal_share": None, "load_average": None}, False),
    ],
)
def test_quiet_needs_evidence(state, expected):
    assert quiet(state) is expected


def test_the_commit_is_empty_outside_a_repository_and_marks_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    clean = commit()
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert commit() == f"{clean}-dirty"
