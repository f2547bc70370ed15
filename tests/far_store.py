"""A store behind a socket and an executor that reaches one worker elsewhere: no folder is shared with the driver.

The server hands out and takes in whole stages as tar files; the worker keeps what it fetched in its own working directory.
This file is copied beside the worker, as an installed package would be.
"""

import io
import json
import os
import select
import shutil
import socket
import socketserver
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

from efflab.contracts.executor import Done, Progress, Resources
from efflab.records.store import Finished

ENTRY_POINT = "[efflab.stores]\ntcp = far_store:TcpStore\n"
FENCE = """
import os, sys

def refuse(event, args):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"):
        for path in args:
            if isinstance(path, (str, bytes)) and os.path.abspath(os.fsdecode(path)).startswith(os.environ["NOT_HERE"]):
                raise PermissionError(f"{event} of {path}, which is in the driver's folder")

sys.addaudithook(refuse)
"""


def packed(folder):
    """Return a folder as the bytes of a tar file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, arcname=".")
    return content.getvalue()


def unpack(content, folder):
    """Write what `packed` gave into a folder."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")


class TcpStore:
    """The worker's side."""

    def __init__(self, address):
        self.address = address
        host, port = address.removeprefix("tcp://").split(":")
        self._place = host, int(port)

    def _ask(self, request, content=b""):
        with socket.create_connection(self._place) as connection:
            connection.sendall(json.dumps(request).encode() + b"\n" + content)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        head, _, body = answer.partition(b"\n")
        return json.loads(head), body

    def holds(self, stage_id):
        return self._ask({"do": "holds", "id": stage_id})[0]

    def finished(self, stage_id):
        found = self._ask({"do": "finished", "id": stage_id})[0]
        return Finished(*found) if found else None

    def fetch(self, stage_id):
        folder = Path("fetched", stage_id).resolve()
        if not folder.exists():
            part = folder.with_name(f"{stage_id}.part")
            part.mkdir(parents=True)
            unpack(self._ask({"do": "fetch", "id": stage_id})[1], part)
            part.rename(folder)
        return folder

    def put(self, stage_id, folder, result, about):
        self._ask({"do": "put", "id": stage_id, "result": result, "about": about}, packed(folder))
        shutil.rmtree(folder)

    def work_folder(self, stage_id):
        folder = Path("work", stage_id).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard(self, stage_id):
        shutil.rmtree(Path("work", stage_id), ignore_errors=True)

    def remove(self, stage_id):
        self._ask({"do": "remove", "id": stage_id})
        self.discard(stage_id)


def serve_store(store):
    """Serve a store of this process; return its address, and what ends it."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            request = json.loads(self.rfile.readline())
            content, stage_id, answer, body = self.rfile.read(), request["id"], None, b""
            match request["do"]:
                case "holds":
                    answer = store.holds(stage_id)
                case "finished":
                    found = store.finished(stage_id)
                    answer = found and [found.result, found.about]
                case "fetch":
                    body = packed(store.fetch(stage_id))
                case "put":
                    folder = store.work_folder(stage_id)
                    unpack(content, folder)
                    store.put(stage_id, folder, request["result"], request["about"])
                case "remove":
                    store.remove(stage_id)
            self.wfile.write(json.dumps(answer).encode() + b"\n" + body)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def end():
        server.shutdown()
        server.server_close()

    return f"tcp://127.0.0.1:{server.server_address[1]}", end


class FarExecutor:
    """One worker with a working directory, a folder for temporary files and packages of its own."""

    def __init__(self, address, folder, forbidden):
        self.address, self.jobs, self._unread = address, [], b""
        site = folder / "site"
        (site / "far-1.0.dist-info").mkdir(parents=True)
        (site / "far-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1.0\n")
        (site / "far-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINT)
        shutil.copyfile(__file__, site / "far_store.py")
        (site / "sitecustomize.py").write_text(FENCE)
        (folder / "tmp").mkdir()
        own = {"TMPDIR": str(folder / "tmp"), "NOT_HERE": str(forbidden), "OMP_NUM_THREADS": "1"}
        own["PYTHONPATH"] = os.pathsep.join([str(site), str(Path(__file__).parents[1])])
        kept = {name: value for name, value in os.environ.items() if name not in ("PWD", "EFFLAB_STORE")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "efflab.execution.stage_server"],
            cwd=folder,
            env={**kept, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.busy = ""

    def free(self, wanted=Resources()):  # noqa: B008
        return 0 if self.busy else 1

    def submit(self, job):
        self.jobs.append(job)
        self.busy = job.stage_id
        request = {"job": job.data(), "store": self.address, "threads": 1}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def wait(self):
        if not select.select([self.process.stdout], [], [], 0.5)[0]:
            return []
        *lines, self._unread = (self._unread + os.read(self.process.stdout.fileno(), 1 << 20)).split(b"\n")
        events = []
        for reply in map(json.loads, lines):
            if "progress" in reply:
                events.append(Progress(self.busy, *reply["progress"]))
            else:
                told = reply.get("answer") or reply["failed"]
                events.append(Done(**{**told, "stage_id": self.busy}))
                self.busy = ""
        return events

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
