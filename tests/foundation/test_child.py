"""One protocol for all child processes: progress, then an answer or a failure; and every way to die is a reason."""

import os

import pytest
from servers import write_server

from efflab.foundation.child import Child

SERVER = """
import os, signal, sys, time
from efflab.foundation.child_server import serve
from efflab.foundation.errors import RequestError, Unavailable

def answer(request, report):
    do = request["do"]
    if do == "count":
        print("libraries print")  # it must not reach the protocol
        for number in range(3):
            report(number, 3, "counting")
        return {"sum": sum(request["numbers"])}
    if do == "refuse":
        raise RequestError("one thing is wrong\\nand another")
    if do == "lack":
        raise Unavailable("it is not installed")
    if do == "memory":
        raise MemoryError
    if do == "break":
        return 1 / 0
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "exit":
        print("licence server not found", file=sys.stderr)
        os._exit(7)
    time.sleep(60)

serve(answer, goes_on=sys.argv[1:] == ["on"] or "GOES_ON" in os.environ)
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "served_by_a_test.py").write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    made = []

    def start():
        made.append(Child("served_by_a_test", 1))
        return made[-1]

    yield start
    for one in made:
        one.end()


def test_progress_comes_before_the_answer_and_what_is_printed_is_no_part_of_it(child):
    one = child()
    one.send({"do": "count", "numbers": [1, 2]})
    found = []
    while not any("answer" in reply for reply in found):
        found += one.replies(5.0)
    assert found == [{"progress": [0, 3, "counting"]}, {"answer": {"sum": 3}}]
    assert one.ask({"do": "count", "numbers": [4]}, 20.0, "counting") == {"sum": 4}
    assert one.failure is None
    assert one.memory_gb() > 0.001


@pytest.mark.parametrize(
    ("do", "kind", "status", "reason"),
    [
        ("refuse", "raised", "failed", "one thing is wrong and another"),
        ("lack", "raised", "unavailable", "it is not installed"),
        ("memory", "raised", "failed", "out of memory"),
        ("break", "raised", "failed", "ZeroDivisionError: division by zero"),
        ("kill", "crash", "failed", "killed by SIGKILL (out of memory?) while trying"),
        ("exit", "crash", "failed", "ended with exit code 7 while trying: licence server not found"),
        ("sleep", "hang", "failed", "gave no answer within 3 s while trying; ended"),
    ],
)
def test_every_way_to_fail_is_a_reason(child, do, kind, status, reason):
    one = child()
    assert one.ask({"do": do}, 3.0 if do == "sleep" else 20.0, "trying") == {}
    assert (one.failure, one.failure.kind, one.failure.status) == (reason, kind, status)
    assert one.ask({"do": "count", "numbers": []}, 1.0, "trying") == {}


def test_a_server_of_stages_goes_on_after_a_failure(child, monkeypatch):
    monkeypatch.setenv("GOES_ON", "1")
    one = child()
    one.send({"do": "refuse"})
    one.send({"do": "count", "numbers": [5]})
    found = []
    while not any("answer" in reply for reply in found):
        found += one.replies(5.0)
    assert found[0] == {"failed": {"status": "failed", "reason": "one thing is wrong\nand another", "refused": True}}
    assert found[-1] == {"answer": {"sum": 5}}


@pytest.fixture
def bad(tmp_path, monkeypatch):
    one = Child(write_server(tmp_path, monkeypatch), 1)
    yield one
    one.end()


@pytest.mark.parametrize(
    ("do", "kind", "reason"),
    [
        ("exit", "raised", "what it runs asked its process to end (SystemExit: 3)"),
        ("ctrl-c", "raised", "what it runs asked its process to end (KeyboardInterrupt)"),
        ("base", "raised", "what it runs asked its process to end (BaseException: as far as it goes)"),
        ("unreadable", "raised", "Unreadable: (its message cannot be read)"),
        ("surrogates", "raised", "ValueError: half a \\udc80 character"),
        ("bytes", "raised", "TypeError: Object of type bytes is not JSON serializable"),
        ("noise", "raised", "something else than an answer was written where it answers"),
        ("die", "crash", "ended with exit code 0 while trying"),
        ("fork and hang", "crash", "killed by SIGSEGV while trying"),
        ("stop", "hang", "gave no answer within 2 s while trying; ended"),
    ],
)
def test_whatever_a_plug_in_does_is_a_reason(bad, do, kind, reason):
    assert bad.ask({"do": do}, 2.0 if do == "stop" else 60.0, "trying") == {}
    assert bad.failure.kind == kind
    assert bad.failure == reason


def test_only_the_answer_to_a_question_counts_and_only_once(bad):
    assert bad.ask({"do": "forged"}, 60.0, "trying") == {"told": "forged"}
    assert bad.ask({"do": "fork"}, 60.0, "trying") == {"told": "fork"}
    for word in ("one", "two"):
        assert bad.ask({"do": word}, 60.0, "trying") == {"told": word}


def test_a_reason_quotes_nothing_that_was_printed_before_its_question(bad):
    assert bad.ask({"do": "say"}, 60.0, "trying") == {"told": "say"}
    bad.ask({"do": "die in words"}, 60.0, "trying")
    assert bad.failure == "ended with exit code 5 while trying: my own words"


def test_what_is_printed_without_end_does_not_fill_the_disk(bad):
    bad.ask({"do": "much"}, 60.0, "trying")
    assert bad.failure.startswith("ended with exit code 4 while trying: xxx")
    assert bad.failure.endswith("xxx | the end")
    assert os.fstat(bad._errors.fileno()).st_size < 1_000_000


def test_a_driver_does_not_wait_for_a_stopped_child_to_read(bad):
    assert bad.ask({"do": "stop"}, 1.0, "trying") == {}
    assert bad.failure.kind == "hang"


def test_a_question_that_no_pipe_holds_reaches_a_child_that_reads_late(bad):
    bad.send({"do": "say", "much": "x" * 3_000_000})
    found = []
    while not found:
        found = bad.replies(5.0)
    assert found == [{"answer": {"told": "say"}}]
