"""A process that answers JSON lines: starts it, asks, and turns every way to die into a reason. See `child_server`.

A request is one line with a `number` of its own. Its replies say in `of` to which number they belong: {"progress": [done,
total, note]}, any number of them, and then {"answer": {...}} or {"failed": {"status", "reason", "refused"}}.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import tempfile
import time
from collections.abc import Callable
from typing import Any, Literal

from efflab.foundation.errors import Status
from efflab.foundation.family import end_family, memory_gb
from efflab.foundation.guard import PREFIX
from efflab.foundation.processes import Spawned, Start, Streams

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
MOST_REPLY_BYTES = 256_000_000  # of one line
MOST_PRINTED_BYTES = 16_000_000  # kept of what it prints
LAST_BYTES, LAST_LINES, LAST_LETTERS = 4000, 3, 400  # of that in a reason
LOOK_S = 0.5  # how often to look whether it has ended: what it started may hold its side of the pipe
END_S = 10.0

Kind = Literal["raised", "crash", "hang"]


class Failure(str):
    """The reason why a process has no answer, as a sentence.

    `status` tells a missing runtime from a failed one; `kind` an exception that it told of from a death and from silence.
    """

    status: Status
    kind: Kind

    def __new__(cls, reason: str, status: Status = "failed", kind: Kind = "raised") -> Failure:
        """Make a reason with its status and kind."""
        failure = super().__new__(cls, reason)
        failure.status, failure.kind = status, kind
        return failure


class Child:
    """A running worker module; `failure` is set once it failed, and every later question is then answered by {}.

    `spoilt` says that something else than replies was written where it replies: nothing more of it can be believed.
    """

    def __init__(self, module: str, threads: int, start: Start | None = None):
        """Start `python -m module` with the thread pools of the usual libraries pinned to `threads`.

        start: another way to start it, such as that of a fork server, whose pools are those of the server.
        """
        self.failure: Failure | None = None
        self.spoilt = False
        self._unread, self._unsent = bytearray(), bytearray()
        self._open: set[str] = set()  # numbers of the requests that are not answered yet
        self._strangers: set[int] = set()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self._said_before = 0  # how much it had printed when it got its last request
        self._gone = False  # waited for
        # what a killed process leaves behind goes with this folder
        self._scratch = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        its_requests, self._requests = os.pipe()
        self._replies, its_replies = os.pipe()
        streams = Streams(its_requests, its_replies, self._errors.fileno())
        try:
            self._process = (start or _spawn(module, threads))(streams, self._scratch.name)
        finally:
            os.close(its_requests)
            os.close(its_replies)
        os.set_blocking(self._requests, False)  # a stopped process reads nothing, and must not stop its driver

    @property
    def pid(self) -> int:
        """The number of the process, which leads a session of its own."""
        return self._process.pid

    def end(self) -> None:
        """End the process and all that it started, whatever they do, and wait for it."""
        if self._gone:
            return
        self._kill()
        self._process.wait(END_S)
        self._gone = True
        os.close(self._requests)
        os.close(self._replies)
        self._errors.close()
        self._scratch.cleanup()

    def _kill(self) -> None:
        if not self._gone:  # not waited for yet, so that its number is still its own
            end_family(self._process.pid, self._scratch.name)

    def ended(self) -> bool:
        """Say whether the process has ended."""
        return self._process.exit_code() is not None

    def stop(self) -> None:
        """Stop the process and what it started, so that no thread of theirs runs on until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the process go on after `stop`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            if not self._gone:
                os.killpg(self._process.pid, number)

    def send(self, request: dict[str, Any]) -> None:
        """Send a request; that the process has died is seen when its reply is read."""
        number = secrets.token_hex(8)  # no plug-in that writes on its own can know it
        self._open.add(number)
        self._said_before = os.fstat(self._errors.fileno()).st_size
        self._unsent += json.dumps({**request, "number": number}).encode() + b"\n"
        self._push()

    def _push(self) -> None:
        """Send what the process takes now."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                del self._unsent[: os.write(self._requests, self._unsent)]

    def replies(self, wait_s: float = 0.0) -> list[dict[str, Any]] | None:
        """Return the replies that are there within `wait_s`, none if there are none; None once the process has ended.

        Replies to a request that has its answer already are dropped. What is no reply at all fails the open requests.
        """
        self._push()
        self._forget_much()
        unsent = [self._requests] if self._unsent else []
        ready, takes_more, _ = select.select([self._replies], unsent, [], max(0.0, min(wait_s, LOOK_S)))
        if not ready and takes_more:
            return []
        if not ready:
            # it may have written its last words between the two looks
            if not self.ended() or select.select([self._replies], [], [], 0.0)[0]:
                return []
            return None
        chunk = os.read(self._replies, 1 << 20)
        if not chunk:
            return None
        *lines, rest = chunk.split(b"\n")
        found = []
        for line in lines:
            found += self._read(bytes(self._unread) + line)
            self._unread.clear()
        self._unread += rest
        if len(self._unread) > MOST_REPLY_BYTES:
            found += self._spoil(f"answered with more than {MOST_REPLY_BYTES // 1_000_000} MB")
        return found

    def _read(self, line: bytes) -> list[dict[str, Any]]:
        """Return the reply on a line, none if it is late."""
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not _is_reply(reply):
            return self._spoil("something else than an answer was written where it answers")
        number = reply.pop("of")
        if number not in self._open:
            return []
        if "progress" not in reply:
            self._open.discard(number)
        return [reply]

    def _spoil(self, reason: str) -> list[dict[str, Any]]:
        self.spoilt = True
        self._unread.clear()
        failed, self._open = self._open, set()
        return [{"failed": {"status": "failed", "reason": reason, "refused": False}} for _ in failed]

    def _forget_much(self) -> None:
        """Throw away what the process has printed where that fills the disk, its last words aside."""
        file = self._errors.fileno()
        size = os.fstat(file).st_size
        if size > MOST_PRINTED_BYTES:
            last = os.pread(file, LAST_BYTES, size - LAST_BYTES)
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)  # the place is the process's, too: it goes on writing there
            os.write(file, last)
            self._said_before = 0

    def fileno(self) -> int:
        """Return what a selector waits on for replies."""
        return self._replies

    def memory_gb(self, enough_gb: float = 0.0) -> float:
        """Return the memory that the process holds with all that it started; below `enough_gb` it may be a little less."""
        return memory_gb(self._process.pid, self._scratch.name, self._strangers, enough_gb)

    def ask(
        self, request: dict[str, Any], limit_s: float, doing: str, meanwhile: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """Send a request and return the answer; an empty one after a failure, which is noted.

        `doing` completes a reason such as "killed by SIGSEGV while ..."; `meanwhile` is called before reading.
        """
        if self.failure:
            return {}
        self.send(request)
        if meanwhile:
            meanwhile()
        deadline = time.monotonic() + limit_s
        while True:
            replies = self.replies(deadline - time.monotonic())
            if replies is None:
                self.failure = Failure(self.death(doing), kind="crash")
                self._kill()
                return {}
            for reply in replies:
                if "answer" in reply:
                    answer: dict[str, Any] = reply["answer"]
                    return answer
                if "failed" in reply:
                    failed = reply["failed"]
                    status: Status = "unavailable" if failed["status"] == "unavailable" else "failed"
                    self.failure = Failure(" ".join(failed["reason"].split()), status)
                    if self.spoilt:
                        self._kill()
                    return {}
            if time.monotonic() > deadline:
                self._kill()
                self.failure = Failure(f"gave no answer within {limit_s:g} s while {doing}; ended", kind="hang")
                return {}

    def death(self, doing: str) -> str:
        """Say how the process ended, with the last lines that it printed as errors since its last request."""
        deadline = time.monotonic() + END_S
        while (code := self._process.exit_code()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if code is None:
            return f"closed its connection while {doing}"
        file = self._errors.fileno()
        size = os.fstat(file).st_size
        start = max(self._said_before, size - LAST_BYTES)
        printed = os.pread(file, max(0, size - start), start).decode(errors="replace").split("\n")
        last = " | ".join([line.strip() for line in printed if line.strip()][-LAST_LINES:])[-LAST_LETTERS:]
        if code < 0:
            name = signal.Signals(-code).name
            how = f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        else:
            how = f"ended with exit code {code}"
        return f"{how} while {doing}" + (f": {last}" if last else "")


def _spawn(module: str, threads: int) -> Start:
    variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return lambda streams, scratch: Spawned(module, variables, streams, scratch)


def _is_reply(reply: Any) -> bool:
    if not isinstance(reply, dict) or len(reply) != 2 or not isinstance(reply.get("of"), str):
        return False
    if "progress" in reply:
        match reply["progress"]:
            case [int() | float(), int() | float(), str()]:
                return True
        return False
    if "failed" in reply:
        failed = reply["failed"]
        return isinstance(failed, dict) and {"status", "reason"} <= failed.keys() <= {"status", "reason", "refused"}
    return isinstance(reply.get("answer"), dict)
