"""Child processes that misbehave, each on demand, for tests of what their driver makes of it."""

import os

SERVER = """
import json, os, signal, subprocess, sys, threading, time
from efflab.foundation.child_server import serve

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


class Unreadable(Exception):
    def __str__(self):
        raise ValueError("no words")


def note(request, *ids):
    with open(request["note"], "a") as file:
        file.write("".join(f"{one}\\n" for one in ids))


def answer(request, report):
    job = request.get("job", {"spec": request})
    do = job["spec"].get("do", "answer")
    if "note" in request:
        note(request, os.getpid())
    if do == "fork":
        os.fork()
    if do == "fork and hang":
        if os.fork() == 0:
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGSEGV)
    if do == "start":
        own = subprocess.Popen(SLEEP, stdin=subprocess.DEVNULL)
        far = subprocess.Popen(SLEEP, stdin=subprocess.DEVNULL, start_new_session=True)
        note(request, own.pid, far.pid)
    if do == "eat":
        code = "import time; hoard = bytearray(b'x' * 300_000_000); print(flush=True); time.sleep(600)"
        subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE).stdout.readline()
    if do in ("start", "eat", "hang"):
        time.sleep(600)
    if do == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if do == "leave":  # dies when it is idle
        threading.Timer(0.3, os._exit, [9]).start()
    if do == "say":
        print("words of another stage")
        sys.stdout.write("and some that wait in a buffer")
    if do == "die":
        os._exit(0)
    if do == "die in words":
        print("my own words", file=sys.stderr)
        os._exit(5)
    if do == "exit":
        sys.exit(3)
    if do == "ctrl-c":
        raise KeyboardInterrupt
    if do == "base":
        raise BaseException("as far as it goes")
    if do == "unreadable":
        raise Unreadable
    if do == "surrogates":
        raise ValueError("half a \\udc80 character")
    if do == "deep":
        return deep(100_000)
    if do == "bytes":
        return {"bytes": b"no JSON"}
    if do == "much":
        os.write(2, b"x" * 40_000_000)
        time.sleep(1.5)
        os.write(2, b"\\nthe end\\n")
        os._exit(4)
    for fd in range(3, 20):  # where the replies go, as a plug-in may find out
        try:
            if do == "noise":
                os.write(fd, b"\\xff\\xfe no JSON\\n")
            if do == "forged":
                told = {"answer": {"stage_id": job.get("stage_id", ""), "status": "ok", "result": {}}}
                os.write(fd, json.dumps(told | {"of": "1"}).encode() + b"\\n")
        except OSError:
            pass
    if do == "list":
        return {"status": ["ok"]}
    if do == "other":
        return {"colour": "red"}
    return {"status": "ok", "result": {}} if "job" in request else {"told": do}


def deep(levels):
    found = []
    for _ in range(levels):
        found = [found]
    return {"deep": found}


serve(answer, goes_on=True)
"""


def write_server(folder, monkeypatch) -> str:
    """Write the server as a module that children find, and return its name."""
    (folder / "served_by_a_bad_plug_in.py").write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    return "served_by_a_bad_plug_in"
