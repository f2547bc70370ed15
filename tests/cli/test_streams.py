"""Standard streams that are closed, readers that are gone, signals in the first moments: an exit code and no traceback."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from efflab.cli._progress import _lasting, _plain
from efflab.execution.watcher import Watcher

EFFLAB = f"{sys.executable} -m efflab.cli.main"
STARTED = """
import os, signal, sys
sys.argv[0] = "efflab"
import efflab.cli
{before}
import efflab.cli.main as program
program._run = lambda words: {then}
sys.exit(program.main())
"""


def shell(command, folder):
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("{efflab} --help | head -1; exit ${{PIPESTATUS[0]}}", 0, ""),
        ("{efflab} schema recipe | true; exit ${{PIPESTATUS[0]}}", 0, ""),
        ("{efflab} schema recipe >&-", 0, ""),
        ("{efflab} schema recipe <&- >&- 2>&-", 0, ""),
        ("{efflab} schema recipe >/dev/full", 2, "efflab: no space left on device\n"),
        ("{efflab} compare nowhere 2>/dev/full", 2, ""),
        ("{efflab} nothing 2>/dev/full", 2, ""),
        (
            "PYTHONIOENCODING=ascii {efflab} plan $'caf\\xc3\\xa9.yaml'",
            2,
            "efflab: caf\\xe9.yaml: no such file or directory\n",
        ),
    ],
)
def test_output_that_nobody_takes_is_no_traceback(command, code, said, tmp_path):
    done = shell(command.format(efflab=EFFLAB), tmp_path)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize(
    ("before", "then", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", "0", 130, ""),
        ("", "os.kill(os.getpid(), signal.SIGINT)", 130, "efflab: interrupted; what is finished is kept"),
        ("", "os.kill(os.getpid(), signal.SIGTERM)", 143, "efflab: ended by SIGTERM; what is finished is kept"),
        (
            "signal.signal(signal.SIGHUP, signal.SIG_DFL)",
            "os.kill(os.getpid(), signal.SIGHUP)",
            129,
            "efflab: ended by SIGHUP; what is finished is kept",
        ),
        ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", "os.kill(os.getpid(), signal.SIGHUP) or 0", 0, ""),
    ],
)
def test_a_signal_ends_the_program_in_words_from_its_first_moment(before, then, code, said):
    script = STARTED.format(before=before, then=then)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


def test_a_library_that_is_imported_leaves_signals_alone():
    script = "import signal, efflab.cli.main; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_run_goes_on_when_nobody_reads_its_progress(monkeypatch):
    dropped, told = [], []
    monkeypatch.setattr("efflab.cli._progress.drop_output", lambda: dropped.append(1))

    def say(sentence):
        told.append(sentence)
        raise BrokenPipeError

    watcher = _lasting(Watcher(say=say))
    watcher.say("one")
    watcher.say("two")
    assert (told, len(dropped)) == (["one", "two"], 2)


def test_no_more_stages_are_counted_than_there_are(capsys):
    watcher = _plain()
    plan = SimpleNamespace(stages={"a": 1, "b": 2}, recipe=SimpleNamespace(notes=[]))
    watcher.start(plan, {"a"})
    for name in ("a", "b"):
        watcher.end(SimpleNamespace(kind="step", title=name), "ok", "", 1.0)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["[1/1]", "[2/2]"]
