"""Runs cases in several worker processes; a death or silence is the verdict on its case, and a fresh process goes on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from efflab.foundation.child import Child, Failure
from efflab.foundation.errors import RequestError
from efflab.foundation.progress import Report
from efflab.validation.verdict import Verdict

WORKER = "efflab.validation.backends.case_server"
OPENING_S = 120.0  # to import a runtime
MOST_SILENT = 3  # requests that hang while none is answered; the others would, too, and each takes its whole limit


class Opening(NamedTuple):
    """What every worker is told first: the backend, its settings as given, processor threads, and files of tolerances."""

    backend: str
    settings: dict[str, Any]
    threads: int
    tolerances: list[str]


class CaseOutcome(NamedTuple):
    """The verdict on one request."""

    verdict: Verdict
    reason: str
    seconds: float
    numbers: dict[str, Any]


def run_requests(
    opening: Opening, requests: Sequence[dict[str, Any]], workers: int, limit_s: float,
    report: Report = lambda done, total, note: None,
) -> list[CaseOutcome]:  # fmt: skip
    """Return the outcome of each request, in order. A request has a `name`, a `suite`, and what that suite asks for.

    One after which a process died or fell silent is tried once more, alone in a fresh process: what others left behind
    must not be laid at its door. Where the first ones all hang, the others are skipped.
    Raises RequestError if the backend cannot even be opened.
    """
    outcomes: dict[int, CaseOutcome] = {}
    waiting, lock = itertools.count(), threading.Lock()

    def work() -> None:
        child: Child | None = None
        try:
            while (index := next(waiting)) < len(requests):
                if len(outcomes) >= MOST_SILENT and all(one.verdict == "hang" for one in list(outcomes.values())):
                    outcomes[index] = CaseOutcome("skipped", "all cases before it hung", 0.0, {})
                    continue
                alone = child is None
                child = child or _opened(opening)
                outcome = _ask(child, requests[index], limit_s)
                if child.failure and not alone:
                    child.end()
                    child = _opened(opening)
                    outcome = _again(_ask(child, requests[index], limit_s), outcome)
                if child.failure:
                    child.end()
                    child = None
                with lock:
                    outcomes[index] = outcome
                    report(len(outcomes), len(requests), requests[index]["name"])
        finally:
            if child:
                child.end()

    if requests:
        with ThreadPoolExecutor(min(workers, len(requests))) as pool:
            # a child lives as long as the thread that started it, and each thread works its own off
            for done in [pool.submit(work) for _ in range(min(workers, len(requests)))]:
                done.result()
    return [outcomes[index] for index in range(len(requests))]


def _opened(opening: Opening) -> Child:
    child = Child(WORKER, opening.threads)
    child.ask(opening._asdict(), OPENING_S, "opening the backend")
    if child.failure:
        reason = str(child.failure)
        child.end()
        raise RequestError(f"backend {opening.backend} cannot be opened: {reason}")
    return child


def _ask(child: Child, request: dict[str, Any], limit_s: float) -> CaseOutcome:
    started = time.monotonic()
    answer = child.ask(request, float(request.get("limit_s", limit_s)), "running it")
    seconds = time.monotonic() - started
    if isinstance(child.failure, Failure):
        verdicts: dict[str, Verdict] = {"crash": "crash", "hang": "hang", "raised": "error"}
        return CaseOutcome(verdicts[child.failure.kind], str(child.failure), seconds, {})
    return CaseOutcome(answer["verdict"], answer["reason"], answer.get("seconds", seconds), answer["numbers"])


def _again(second: CaseOutcome, first: CaseOutcome) -> CaseOutcome:
    if second.verdict in ("crash", "hang"):
        return second
    told = f"alone; after other cases in one process: {first.reason}"
    return second._replace(reason="; ".join(part for part in (second.reason, told) if part))
