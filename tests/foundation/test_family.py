"""What a child process started ends with it, however it or its driver ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from servers import write_server

from efflab.foundation.child import Child

DRIVER = """
import sys, time
from efflab.foundation.child import Child
child = Child(sys.argv[1], 1)
child.send({"do": "start", "note": sys.argv[2]})
time.sleep(600)
"""


def ids(path, count):
    """Return the ids of processes that were noted, once there are so many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = path.read_text().split() if path.exists() else []
        if len(found) == count:
            return [int(one) for one in found]
        time.sleep(0.05)
    raise AssertionError(f"{found} are not {count} processes")


def alive(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def none_lives(numbers):
    deadline = time.monotonic() + 30
    while any(map(alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, numbers))


@pytest.mark.parametrize("end", ["end", "crash"])
def test_what_a_child_started_ends_with_it_even_in_a_session_of_its_own(end, tmp_path, monkeypatch):
    child = Child(write_server(tmp_path, monkeypatch), 1)
    child.send({"do": "start", "note": str(tmp_path / "ids")})
    family = ids(tmp_path / "ids", 3)
    assert all(map(alive, family))
    if end == "crash":  # nobody ends the others but the guard
        os.kill(family[0], signal.SIGKILL)
        assert none_lives(family)
    child.end()
    assert none_lives(family)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_process_outlives_a_driver_that_is_killed(number, tmp_path, monkeypatch):
    module = write_server(tmp_path, monkeypatch)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, module, str(tmp_path / "ids")])
    family = ids(tmp_path / "ids", 3)
    driver.send_signal(number)
    driver.wait()
    assert none_lives(family)
    deadline = time.monotonic() + 30
    while list(tmp_path.glob("efflab-child-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(tmp_path.glob("efflab-child-*"))


def test_memory_is_that_of_a_child_and_of_what_it_started(tmp_path, monkeypatch):
    child = Child(write_server(tmp_path, monkeypatch), 1)
    child.send({"do": "eat"})
    deadline = time.monotonic() + 60
    while child.memory_gb() < 0.3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert 0.3 < child.memory_gb() < 0.6
    child.end()
