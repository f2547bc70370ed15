"""Copies of a process: they answer like fresh ones, die like them, and none outlives its server."""

import os
import signal
import time

import psutil
import pytest

from efflab.foundation.child import Child
from efflab.foundation.fork_server import ForkServer, can_fork_safely

pytestmark = pytest.mark.skipif(not can_fork_safely(), reason="this system has no /proc")
SERVER = """
import os, sys, tempfile, threading, time
from efflab.foundation.child_server import serve
from efflab.foundation.fork_server import check_stream, exit_code, import_modules, make_copy

MADE = []


def copy():
    def answer(request, report):
        if request["do"] == "die":
            print("its last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), request["signal"])
        if request["do"] == "leave":
            os._exit(7)
        return {"pid": os.getpid(), "made": len(MADE), "folder": tempfile.gettempdir(), "session": os.getsid(0)}
    serve(answer)


def answer(request, report):
    match request["do"]:
        case "import":
            check_stream(request["stream"])
            import_modules(request["modules"])
            return {}
        case "fork":
            MADE.append(1)
            return {"pid": make_copy(request["streams"], request["scratch"], copy)}
        case _:
            return exit_code(request["pid"], forget=request["forget"])


serve(answer)
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    (tmp_path / "copies_of_a_test.py").write_text(SERVER)
    (tmp_path / "starts_threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    made = []

    def start(*modules):
        made.append(ForkServer("copies_of_a_test", 1, modules))
        return made[-1]

    yield start
    for one in made:
        one.end()


def test_copies_answer_each_for_itself(server):
    started = server("json")
    assert started.failure is None
    children = [Child("", 1, started.start) for _ in range(3)]
    told = [child.ask({"do": "tell"}, 10, "telling") for child in children]
    assert [one["pid"] for one in told] == [child.pid for child in children]
    assert [one["made"] for one in told] == [1, 2, 3]  # each is a copy of what the server was
    assert len({one["folder"] for one in told}) == 3
    assert all(one["session"] == one["pid"] for one in told)  # by which what it starts is found
    for child in children:
        child.end()
        assert not psutil.pid_exists(child.pid)


def test_how_a_copy_died_is_known(server):
    started = server()
    killed, left = (Child("", 1, started.start) for _ in range(2))
    assert killed.ask({"do": "die", "signal": int(signal.SIGSEGV)}, 10, "being timed") == {}
    assert killed.failure == "killed by SIGSEGV while being timed: its last words"
    left.ask({"do": "leave"}, 10, "being timed")
    assert left.failure == "ended with exit code 7 while being timed"
    killed.end()
    left.end()


def test_a_stopped_copy_goes_on(server):
    child = Child("", 1, server().start)
    child.ask({"do": "tell"}, 10, "telling")
    child.stop()
    time.sleep(0.05)
    assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
    child.go_on()
    assert child.ask({"do": "tell"}, 10, "telling")["pid"] == child.pid
    child.stop()
    child.end()  # a stopped one ends, too
    assert not psutil.pid_exists(child.pid)


def test_copies_end_with_their_server(server):
    started = server()
    child = Child("", 1, started.start)
    child.ask({"do": "tell"}, 10, "telling")
    started.end()
    deadline = time.monotonic() + 10
    while child.ask({"do": "tell"}, 2, "telling") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.failure is not None
    child.end()


def test_what_starts_threads_is_not_copied(server):
    assert server("starts_threads").failure == "RuntimeError: importing starts_threads starts threads"
